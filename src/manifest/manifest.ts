/**
 * What a model is: the files, their sizes, SHA-256 and roots; canonical dag-cbor, unsigned, and the
 * same bytes on every machine that imports the same files. The rule is docs/spec/manifest.md.
 */

import { type CID, codecs, makeCid } from '../core/cid.ts'
import { digestBytes, sha256 } from '../core/digest.ts'
import { InvalidInputError } from '../core/errors.ts'
import { MiB } from '../core/units.ts'
import { CborReader } from './cbor-reader.ts'
import { CborWriter, cidItemBytes, headBytesMax } from './cbor-writer.ts'
import { checkFiles } from './check-files.ts'
import { comparePaths, pathBytesMax } from './paths.ts'

/** What a peer may send as one: 100,000 files with paths of 500 bytes fit. */
export const manifestBytesMax = 64 * MiB
/** Ten times the files of the largest repository of weights known. */
export const manifestFilesMax = 100_000

export const manifestType = 'commonweight/manifest'
export const manifestVersion = 1
export const chunkingId = 'cw-chunk-1'

export interface ManifestFile {
  /** Accepted by parsePath of ./paths.ts. */
  readonly path: string
  readonly size: number
  /** 32 bytes. */
  readonly sha256: Uint8Array
  /** raw or dag-pb. */
  readonly root: CID
}

export interface Manifest {
  readonly type: typeof manifestType
  readonly version: typeof manifestVersion
  readonly chunking: typeof chunkingId
  /** Sorted by the bytes of their path; at least one. */
  readonly files: readonly ManifestFile[]
}

/** The manifest of these files, in any order; throws InvalidInputError when they cannot be a model. */
export function makeManifest(files: Iterable<ManifestFile>): Manifest {
  const sorted = Array.from(files).toSorted((a, b) => comparePaths(a.path, b.path))
  checkCount(sorted.length)
  checkFiles(sorted)
  return { type: manifestType, version: manifestVersion, chunking: chunkingId, files: sorted }
}

/** A manifest and its name: what makeManifest, encodeManifest and manifestCid give, checked once. */
export interface SealedManifest {
  readonly manifest: Manifest
  readonly block: Uint8Array
  readonly cid: CID
}

export function sealManifest(files: Iterable<ManifestFile>): SealedManifest {
  const manifest = makeManifest(files)
  const block = write(manifest)
  return { manifest, block, cid: manifestCid(block) }
}

/** The canonical bytes; throws InvalidInputError unless `files` is sorted and could be a model. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  checkCount(manifest.files.length)
  checkFiles(manifest.files)
  return write(manifest)
}

/** Bytes of a file beside its path: four names, four values, the heads of all. */
const fileBytesMax = 'pathrootsizesha256'.length + digestBytes + cidItemBytes + 8 * headBytesMax
const manifestHeadBytesMax = 256

function write({ type, version, chunking, files }: Manifest): Uint8Array {
  const pathBytes = files.reduce((sum, { path }) => sum + Buffer.byteLength(path), 0)
  const writer = new CborWriter(manifestHeadBytesMax + files.length * fileBytesMax + pathBytes)
  writer.map(4)
  writer.text('type')
  writer.text(type)
  writer.text('files')
  writer.array(files.length)
  // Named one by one: nothing else that the objects may carry gets into the bytes.
  for (const { path, root, size, sha256: digest } of files) {
    writer.map(4)
    writer.text('path')
    writer.text(path)
    writer.text('root')
    writer.cid(root)
    writer.text('size')
    writer.uint(size)
    writer.text('sha256')
    writer.byteString(digest)
  }
  writer.text('version')
  writer.uint(version)
  writer.text('chunking')
  writer.text(chunking)
  const block = writer.bytes
  checkBytes(block)
  return block
}

/** The CID of a manifest's canonical bytes: the identity of a model. */
export function manifestCid(block: Uint8Array): CID {
  return makeCid(codecs.dagCbor, sha256(block))
}

/**
 * Reads bytes that came from anywhere; throws InvalidInputError with the reason. Each manifest has
 * one encoding and only that is read: encoding the result gives the same bytes.
 */
export function decodeManifest(block: Uint8Array): Manifest {
  checkBytes(block)
  const reader = new CborReader(block)
  const fields = openMap(reader, 'the manifest', 4)
  expectField(reader, 'type')
  expectValue('type', reader.text(valueBytesMax), manifestType)
  expectField(reader, 'files')
  const files = decodeFiles(reader)
  expectField(reader, 'version')
  expectValue('version', reader.uint(), manifestVersion)
  expectField(reader, 'chunking')
  expectValue('chunking', reader.text(valueBytesMax), chunkingId)
  if (fields > 4) throw unknownField(reader.text(valueBytesMax))
  reader.end()
  checkFiles(files)
  return { type: manifestType, version: manifestVersion, chunking: chunkingId, files }
}

/** Bytes of a field's name, and of a value that is one of a few words. */
const valueBytesMax = 64

function decodeFiles(reader: CborReader): ManifestFile[] {
  const count = reader.array()
  checkCount(count)
  return Array.from({ length: count }, () => decodeFile(reader))
}

function decodeFile(reader: CborReader): ManifestFile {
  const fields = openMap(reader, 'a file', 4)
  expectField(reader, 'path')
  const path = reader.text(pathBytesMax)
  expectField(reader, 'root')
  const root = reader.cid()
  expectField(reader, 'size')
  const size = reader.uint()
  expectField(reader, 'sha256')
  const digest = reader.bytes(digestBytes)
  if (fields > 4) throw unknownField(reader.text(valueBytesMax))
  return { path, size, sha256: digest, root }
}

function openMap(reader: CborReader, name: string, fieldsMin: number): number {
  const fields = reader.map()
  if (fields < fieldsMin) throw new InvalidInputError(`${name} has only ${fields} fields`)
  return fields
}

/** Canonical maps have their keys in one order, so each is expected at its place. */
function expectField(reader: CborReader, name: string): void {
  if (reader.accept(name)) return
  const found = reader.text(valueBytesMax)
  throw knownFields.has(found)
    ? new InvalidInputError(`a manifest with the field ${found} where ${name} belongs`)
    : unknownField(found)
}

const knownFields: ReadonlySet<string> = new Set(
  ['type', 'files', 'version', 'chunking'].concat(['path', 'root', 'size', 'sha256']),
)
/** Specified for models imported from a hub, and not read yet: docs/spec/manifest.md section 5. */
const reservedFields: ReadonlySet<string> = new Set(['source', 'gitOid', 'lfs'])

const updateHint = 'update Commonweight'

function unknownField(name: string): InvalidInputError {
  return reservedFields.has(name)
    ? new InvalidInputError(`the field ${name} of a manifest needs a newer version`, {
        hint: updateHint,
      })
    : new InvalidInputError(`a manifest with the unknown field ${JSON.stringify(name)}`)
}

function expectValue(field: string, found: string | number, expected: string | number): void {
  if (found === expected) return
  const isNewer = typeof found === 'number' && found > manifestVersion
  throw new InvalidInputError(
    `a manifest with the ${field} ${JSON.stringify(found)}; this version reads ${expected}`,
    isNewer || field === 'chunking' ? { hint: updateHint } : {},
  )
}

function checkBytes(block: Uint8Array): void {
  if (block.length > manifestBytesMax) {
    throw new InvalidInputError(
      `a manifest of ${block.length} bytes; at most ${manifestBytesMax} allowed`,
    )
  }
}

function checkCount(files: number): void {
  if (files <= manifestFilesMax) return
  throw new InvalidInputError(`a model of ${files} files; at most ${manifestFilesMax} allowed`)
}
