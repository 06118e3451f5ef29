/**
 * What a model is: the files, their sizes, SHA-256 and roots; canonical dag-cbor, unsigned, and the
 * same bytes on every machine that imports the same files. The rule is docs/spec/manifest.md.
 */

import { fromHex, toHex } from '../core/bytes.ts'
import { type CID, codecs, makeCid } from '../core/cid.ts'
import { digestBytes, sha256 } from '../core/digest.ts'
import { InvalidInputError } from '../core/errors.ts'
import { MiB } from '../core/units.ts'
import { CborReader } from './cbor-reader.ts'
import { CborWriter, cidItemBytes, headBytesMax } from './cbor-writer.ts'
import { checkFiles } from './check-files.ts'
import { comparePaths, pathBytesMax } from './paths.ts'
import {
  checkGitFacts,
  checkSource,
  type GitFacts,
  gitOidBytes,
  hubNameBytesMax,
  type ManifestSource,
  repoNameBytesMax,
  type SourceType,
} from './source.ts'

export type { ManifestSource } from './source.ts'

/** What a peer may send as one: 100,000 files with paths of 500 bytes fit. */
export const manifestBytesMax = 64 * MiB
/** Ten times the files of the largest repository of weights known. */
export const manifestFilesMax = 100_000

export const manifestType = 'commonweight/manifest'
export const manifestVersion = 1
export const chunkingId = 'cw-chunk-1'

export interface ManifestFile extends GitFacts {
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
  /** The hub's commit that these files are, all of them; each has its `gitOid` and `lfs` then. */
  readonly source?: ManifestSource
}

/** The manifest of these files, in any order; throws InvalidInputError when they cannot be a model. */
export function makeManifest(files: Iterable<ManifestFile>, source?: ManifestSource): Manifest {
  const sorted = Array.from(files).toSorted((a, b) => comparePaths(a.path, b.path))
  check(sorted, source)
  return manifestOf(sorted, source)
}

function manifestOf(files: readonly ManifestFile[], source?: ManifestSource): Manifest {
  const fixed = { type: manifestType, version: manifestVersion, chunking: chunkingId } as const
  return source === undefined ? { ...fixed, files } : { ...fixed, files, source }
}

function check(files: readonly ManifestFile[], source: ManifestSource | undefined): void {
  checkCount(files.length)
  checkFiles(files)
  if (source !== undefined) checkSource(source)
  checkGitFacts(files, source)
}

/** A manifest and its name: what makeManifest, encodeManifest and manifestCid give, checked once. */
export interface SealedManifest {
  readonly manifest: Manifest
  readonly block: Uint8Array
  readonly cid: CID
}

export function sealManifest(
  files: Iterable<ManifestFile>,
  source?: ManifestSource,
): SealedManifest {
  const manifest = makeManifest(files, source)
  const block = write(manifest)
  return { manifest, block, cid: manifestCid(block) }
}

/** The canonical bytes; throws InvalidInputError unless `files` is sorted and could be a model. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  check(manifest.files, manifest.source)
  return write(manifest)
}

/** Bytes of a file beside its path: six names, six values, the heads of all. */
const fileBytesMax =
  'lfspathrootsizegitOidsha256'.length +
  digestBytes +
  gitOidBytes +
  cidItemBytes +
  12 * headBytesMax
const manifestHeadBytesMax = 256 + hubNameBytesMax + repoNameBytesMax

function write({ type, version, chunking, files, source }: Manifest): Uint8Array {
  const pathBytes = files.reduce((sum, { path }) => sum + Buffer.byteLength(path), 0)
  const writer = new CborWriter(manifestHeadBytesMax + files.length * fileBytesMax + pathBytes)
  writer.map(source === undefined ? 4 : 5)
  writer.text('type')
  writer.text(type)
  writer.text('files')
  writer.array(files.length)
  for (const file of files) writeFile(writer, file)
  if (source !== undefined) writeSource(writer, source)
  writer.text('version')
  writer.uint(version)
  writer.text('chunking')
  writer.text(chunking)
  const block = writer.bytes
  checkBytes(block)
  return block
}

/** Fields named one by one: nothing else that the object may carry gets into the bytes. */
function writeFile(writer: CborWriter, file: ManifestFile): void {
  const { gitOid, lfs } = file
  writer.map(4 + (lfs === undefined ? 0 : 1) + (gitOid === undefined ? 0 : 1))
  if (lfs !== undefined) {
    writer.text('lfs')
    writer.bool(lfs)
  }
  writer.text('path')
  writer.text(file.path)
  writer.text('root')
  writer.cid(file.root)
  writer.text('size')
  writer.uint(file.size)
  if (gitOid !== undefined) {
    writer.text('gitOid')
    writer.byteString(fromHex(gitOid))
  }
  writer.text('sha256')
  writer.byteString(file.sha256)
}

function writeSource(writer: CborWriter, { hub, repo, type, commit }: ManifestSource): void {
  writer.text('source')
  writer.map(4)
  writer.text('hub')
  writer.text(hub)
  writer.text('repo')
  writer.text(repo)
  writer.text('type')
  writer.text(type)
  writer.text('commit')
  writer.byteString(fromHex(commit))
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
  const source = reader.accept('source') ? decodeSource(reader) : undefined
  expectField(reader, 'version')
  expectValue('version', reader.uint(), manifestVersion)
  expectField(reader, 'chunking')
  expectValue('chunking', reader.text(valueBytesMax), chunkingId)
  closeMap(reader, 'the manifest', fields - (source === undefined ? 4 : 5))
  reader.end()
  check(files, source)
  return manifestOf(files, source)
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
  const lfs = reader.accept('lfs') ? reader.bool() : undefined
  expectField(reader, 'path')
  const path = reader.text(pathBytesMax)
  expectField(reader, 'root')
  const root = reader.cid()
  expectField(reader, 'size')
  const size = reader.uint()
  const gitOid = reader.accept('gitOid') ? toHex(reader.bytes(gitOidBytes)) : undefined
  expectField(reader, 'sha256')
  const file = { path, size, sha256: reader.bytes(digestBytes), root }
  const read = 4 + (lfs === undefined ? 0 : 1) + (gitOid === undefined ? 0 : 1)
  closeMap(reader, 'a file', fields - read)
  if (lfs === undefined && gitOid === undefined) return file
  return {
    ...file,
    ...(gitOid === undefined ? {} : { gitOid }),
    ...(lfs === undefined ? {} : { lfs }),
  }
}

function decodeSource(reader: CborReader): ManifestSource {
  const fields = openMap(reader, 'the source', 4)
  expectField(reader, 'hub')
  const hub = reader.text(hubNameBytesMax)
  expectField(reader, 'repo')
  const repo = reader.text(repoNameBytesMax)
  expectField(reader, 'type')
  // Checked with the rest of the source, once it is read.
  const type = reader.text(valueBytesMax) as SourceType
  expectField(reader, 'commit')
  const commit = toHex(reader.bytes(gitOidBytes))
  closeMap(reader, 'the source', fields - 4)
  return { hub, repo, type, commit }
}

function openMap(reader: CborReader, name: string, fieldsMin: number): number {
  const fields = reader.map()
  if (fields < fieldsMin) throw new InvalidInputError(`${name} has only ${fields} fields`)
  return fields
}

/** Refuses a map in which `fieldsLeft` are not read yet, or which had fewer than were. */
function closeMap(reader: CborReader, name: string, fieldsLeft: number): void {
  if (fieldsLeft > 0) throw unknownField(reader.text(valueBytesMax))
  if (fieldsLeft < 0) throw new InvalidInputError(`${name} has more fields than it says`)
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
  ['type', 'files', 'source', 'version', 'chunking']
    .concat(['lfs', 'path', 'root', 'size', 'gitOid', 'sha256'])
    .concat(['hub', 'repo', 'commit']),
)

const updateHint = 'update Commonweight'

function unknownField(name: string): InvalidInputError {
  return knownFields.has(name)
    ? new InvalidInputError(`a manifest with the field ${name} where it does not belong`)
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
