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
} from '../../../src/manifest/manifest.ts'
import { emptyFileAt, largeFile, smallFile } from '../../support/manifests.ts'
import { readVectors } from '../../support/vectors.ts'

interface ManifestVectors {
  readonly valid: readonly {
    readonly name: string
    readonly files: readonly { path: string; size: number; sha256: string; root: string }[]
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
  const manifest = makeManifest(files.toReversed())
  const block = Buffer.from(vector.block, 'base64')
  expect(Buffer.from(encodeManifest(manifest))).toEqual(block)
  expect(manifestCid(block).toString()).toBe(vector.cid)
  const decoded = decodeManifest(block)
  expect(decoded.files.map(({ path }) => path)).toEqual(files.map(({ path }) => path))
  expect(Buffer.from(encodeManifest(decoded))).toEqual(block)
})

test.for(vectors.invalid)('invalid: $name', ({ block, expect: reason }) => {
  const decode = (): unknown => decodeManifest(Buffer.from(block, 'base64'))
  expect(decode).toThrow(InvalidInputError)
  expect(decode).toThrow(reason)
})

test('what a newer version is needed for says so in its hint', () => {
  for (const name of ['version 2', 'another chunking', 'a source, reserved', 'lfs, reserved']) {
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
