import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fromHex } from '../../../src/core/bytes.ts'
import { parseCid } from '../../../src/core/cid.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import {
  decodeManifest,
  encodeManifest,
  makeManifest,
  type Manifest,
  type ManifestFile,
  sealManifest,
  manifestBytesMax,
  manifestCid,
  manifestFilesMax,
  type ManifestSource,
} from '../../../src/manifest/manifest.ts'
import type { GitFacts } from '../../../src/manifest/source.ts'
import { emptyFileAt, largeFile, smallFile } from '../../support/manifests.ts'
import { readVectors } from '../../support/vectors.ts'

interface ManifestVectors {
  readonly valid: readonly {
    readonly name: string
    readonly source?: ManifestSource
    readonly files: readonly (GitFacts & {
      readonly path: string
      readonly size: number
      readonly sha256: string
      readonly root: string
    })[]
    readonly block: string
    readonly cid: string
  }[]
  readonly invalid: readonly { name: string; block: string; expect: string }[]
}

const vectors = readVectors<ManifestVectors>('manifest.json')

test('seals as makeManifest, encodeManifest, manifestCid and @ipld/dag-cbor do', () => {
  const file = fc
    .tuple(fc.stringMatching(/^[a-zé日]{1,9}(\/[a-z0-9]{1,300})?$/u), fc.nat(2 ** 20), fc.boolean())
    .map(([path, size, isLarge]) =>
      isLarge ? largeFile(path, size + 2 ** 32) : smallFile(path, size + 1),
    )
  fc.assert(
    fc.property(fc.array(file, { minLength: 1, maxLength: 40 }), files => {
      const manifest = manifestOrNot(files)
      fc.pre(manifest !== undefined)
      const sealed = sealManifest(files.toReversed())
      expect(sealed.manifest).toEqual(manifest)
      expect(Buffer.from(sealed.block)).toEqual(Buffer.from(dagCbor.encode(manifest)))
      expect(Buffer.from(encodeManifest(manifest))).toEqual(Buffer.from(sealed.block))
      expect(sealed.cid.toString()).toBe(manifestCid(sealed.block).toString())
    }),
  )
})

function manifestOrNot(files: readonly ManifestFile[]): Manifest | undefined {
  try {
    return makeManifest(files)
  } catch (error) {
    if (error instanceof InvalidInputError) return undefined
    throw error
  }
}

test.for(vectors.valid)('valid: $name', vector => {
  const files = vector.files.map(file => ({
    ...file,
    sha256: fromHex(file.sha256),
    root: parseCid(file.root),
  }))
  // In another order than they belong.
  const manifest = makeManifest(files.toReversed(), vector.source)
  const block = Buffer.from(vector.block, 'base64')
  expect(Buffer.from(encodeManifest(manifest))).toEqual(block)
  expect(manifestCid(block).toString()).toBe(vector.cid)
  const decoded = decodeManifest(block)
  expect(decoded.files.map(({ path }) => path)).toEqual(files.map(({ path }) => path))
  expect(decoded.files.map(({ gitOid }) => gitOid)).toEqual(files.map(({ gitOid }) => gitOid))
  expect(decoded.files.map(({ lfs }) => lfs)).toEqual(files.map(({ lfs }) => lfs))
  expect(decoded.source).toEqual(vector.source)
  expect(Buffer.from(encodeManifest(decoded))).toEqual(block)
})

test.for(vectors.invalid)('invalid: $name', ({ block, expect: reason }) => {
  const decode = (): unknown => decodeManifest(Buffer.from(block, 'base64'))
  expect(decode).toThrow(InvalidInputError)
  expect(decode).toThrow(reason)
})

test('what a newer version is needed for says so in its hint', () => {
  for (const name of ['version 2', 'another chunking']) {
    const block = vectors.invalid.find(vector => vector.name === name)?.block ?? ''
    expect(() => decodeManifest(Buffer.from(block, 'base64'))).toThrow(
      expect.objectContaining({ hint: 'update Commonweight' }),
    )
  }
})

const name = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '😀', '0', '.x', '_'), minLength: 1 })
const anyFiles = fc
  .uniqueArray(name, { maxLength: 20, minLength: 1, selector: path => path.replace(/\.*$/u, '') })
  .map(names =>
    names.map((path, index) =>
      index % 3 === 0 ? smallFile(path) : index % 3 === 1 ? largeFile(path) : emptyFileAt(path),
    ),
  )

test('a manifest depends on the files and not on their order, and dag-cbor reads it', () => {
  fc.assert(
    fc.property(anyFiles, fc.infiniteStream(fc.nat()), (files, ranks) => {
      const shuffled = files
        .map(file => ({ file, rank: ranks.next().value as number }))
        .toSorted((a, b) => a.rank - b.rank)
        .map(({ file }) => file)
      const block = encodeManifest(makeManifest(files))
      expect(encodeManifest(makeManifest(shuffled))).toEqual(block)
      expect(decodeManifest(block)).toEqual(dagCbor.decode(block))
    }),
  )
})

test('encoding sorts nothing and drops what is not part of a manifest', () => {
  const manifest = makeManifest([smallFile('a'), smallFile('b')])
  const reversed = { ...manifest, files: manifest.files.toReversed() }
  expect(() => encodeManifest(reversed)).toThrow('order')
  const extra = { ...manifest, files: manifest.files.map(file => ({ ...file, place: '/x' })) }
  expect(encodeManifest(extra)).toEqual(encodeManifest(manifest))
})

const anySource = fc.record({
  hub: fc.constantFrom('huggingface.co', 'a', 'hub-1.example.org'),
  repo: fc.constantFrom('a', 'org/Model', '01-ai/Yi-34B_x', 'x/y.z'),
  type: fc.constantFrom('model', 'dataset', 'space'),
  commit: fc
    .uint8Array({ minLength: 20, maxLength: 20 })
    .map(bytes => Buffer.from(bytes).toString('hex')),
} as const)

/** The file as git may call it: the same name for the same bytes. */
function inGit(file: ManifestFile, lfs: boolean): ManifestFile {
  const blob = file.size === 0 ? 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391' : undefined
  return { ...file, gitOid: blob ?? Buffer.from(file.sha256.subarray(0, 20)).toString('hex'), lfs }
}

function gitFacts({ path, gitOid, lfs }: ManifestFile): unknown {
  return { path, gitOid, lfs }
}

test('a source and names in git are read as they were written, and as dag-cbor writes them', () => {
  fc.assert(
    fc.property(anyFiles, anySource, fc.boolean(), (files, source, lfs) => {
      const named = files.map((file, index) => inGit(file, lfs && index % 2 === 0))
      const manifest = makeManifest(named, source)
      const block = encodeManifest(manifest)
      const decoded = decodeManifest(block)
      expect(decoded.source).toEqual(source)
      expect(decoded.files.map(gitFacts)).toEqual(manifest.files.map(gitFacts))
      expect(encodeManifest(decoded)).toEqual(block)
      const plain = {
        ...manifest,
        source: { ...source, commit: Buffer.from(source.commit, 'hex') },
        files: manifest.files.map(file => ({
          ...file,
          gitOid: Buffer.from(file.gitOid ?? '', 'hex'),
        })),
      }
      expect(Buffer.from(block)).toEqual(Buffer.from(dagCbor.encode(plain)))
      expect(manifestCid(block).equals(manifestCid(encodeManifest(makeManifest(files))))).toBe(
        false,
      )
    }),
  )
})

test('names in git without a source are refused, and a source without them', () => {
  const source = {
    hub: 'huggingface.co',
    repo: 'a/b',
    type: 'model',
    commit: 'a'.repeat(40),
  } as const
  const named = inGit(smallFile('a'), false)
  expect(() => makeManifest([named])).toThrow('has no source')
  expect(() => makeManifest([named, smallFile('b')], source)).toThrow('"b" has no name in git')
  expect(() => makeManifest([{ ...named, gitOid: 'A'.repeat(40) }], source)).toThrow(
    '40 lower-case',
  )
  expect(() => makeManifest([named], { ...source, commit: 'main' })).toThrow('not a commit')
})

const manyFiles = Array.from({ length: manifestFilesMax + 1 }, (_, index) =>
  smallFile(`shard-${index}`),
)

test('100,000 files are a model, one more is not', () => {
  const block = encodeManifest(makeManifest(manyFiles.slice(1)))
  expect(decodeManifest(block).files).toHaveLength(manifestFilesMax)
  expect(() => makeManifest(manyFiles)).toThrow('at most 100000')
}, 30_000)

test('a block above 64 MiB is refused before it is read', () => {
  expect(() => decodeManifest(new Uint8Array(manifestBytesMax + 1))).toThrow('at most 67108864')
})
