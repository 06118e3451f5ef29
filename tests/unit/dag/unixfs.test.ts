import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.ts'
import { codecs, makeCid, rawCid } from '../../../src/core/cid.ts'
import { MiB, TiB } from '../../../src/core/units.ts'
import { ChunkTable } from '../../../src/dag/chunk-table.ts'
import {
  buildDag,
  decodeNode,
  emptyFile,
  encodeNode,
  type Link,
  linksMax,
  nodeBytesMax,
  rootOf,
} from '../../../src/dag/unixfs.ts'
import { inventedTable, tableOf } from '../../support/dags.ts'
import { chunkingCases, contentOf, dagCases } from '../../support/vectors.ts'

test.for(chunkingCases)('$name: builds the DAG of the golden vector', vector => {
  const content = contentOf(vector.parts)
  expect(content.length).toBe(vector.size)
  expect(toHex(nobleSha256(content))).toBe(vector.sha256)
  const table = ChunkTable.fromRefs(
    vector.chunks.map(([offset, length]) => ({
      digest: nobleSha256(content.subarray(offset, offset + length)),
      length,
    })),
  )
  const { root, nodes } = buildDag(table)
  expect(root.toString()).toBe(vector.root)
  expect(nodes.map(({ cid }) => cid.toString())).toEqual(vector.nodes)
  expect(rootOf(table).toString()).toBe(vector.root)
})

// A million leaves take a few seconds on a busy machine.
test.for(dagCases)('$name: builds the DAG of the golden vector', vector => {
  const table = tableOf(vector)
  expect(table.count).toBe(vector.leafCount)
  expect(table.size).toBe(vector.size)
  const { root, tsize, nodes } = buildDag(table)
  expect(root.toString()).toBe(vector.root)
  expect(tsize).toBe(vector.rootTsize)
  expect(nodes).toHaveLength(vector.nodeCount)
  const list = nodes.map(({ cid }) => `${cid.toString()}\n`).join('')
  expect(toHex(nobleSha256(Buffer.from(list)))).toBe(vector.nodesSha256)
  for (const [node, expected] of [
    [nodes[0], vector.firstNode],
    [nodes.at(-1), vector.lastNode],
  ] as const) {
    expect(node?.cid.toString()).toBe(expected.cid)
    expect(node?.block.length).toBe(expected.bytes)
  }
})

test('every node that is built is read back, and encodes to the same bytes', () => {
  const { nodes } = buildDag(inventedTable(2049, index => 1 + ((index * 7919) % MiB)))
  for (const { block } of nodes) {
    const { links, size } = decodeNode(block)
    expect(links.reduce((sum, link) => sum + link.size, 0)).toBe(size)
    expect(encodeNode(links)).toEqual(block)
  }
})

function subtree(size: number, tsize: number, seed: number): Link {
  return { cid: makeCid(codecs.dagPb, nobleSha256(Buffer.of(seed))), size, tsize }
}

function chunk(size: number, seed = 0): Link {
  return { cid: rawCid(nobleSha256(Buffer.of(seed))), size, tsize: size }
}

const anyLink: fc.Arbitrary<Link> = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: MiB }), fc.nat(255)).map(([size, seed]) => chunk(size, seed)),
  fc
    .tuple(fc.integer({ min: 1, max: TiB }), fc.maxSafeNat(), fc.nat(255))
    .map(([size, tsize, seed]) => subtree(size, Math.floor(tsize / 64), seed)),
)

test('nodes of any links are read back as they were', () => {
  fc.assert(
    fc.property(fc.array(anyLink, { minLength: 1, maxLength: 12 }), links => {
      expect(decodeNode(encodeNode(links)).links).toEqual(links)
    }),
    { numRuns: 300 },
  )
})

test.for([2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 42])('a size of %i is kept', size => {
  const node = decodeNode(encodeNode([subtree(size, size + 100, 1)]))
  expect(node.size).toBe(size)
  expect(node.links[0]?.tsize).toBe(size + 100)
})

test('a full node with the longest numbers is within the bound', () => {
  const links = Array.from({ length: linksMax }, () => subtree(16 * 2 ** 30, 2 ** 52, 1))
  const block = encodeNode(links)
  expect(block.length).toBeLessThan(nodeBytesMax)
  expect(decodeNode(block).links).toHaveLength(linksMax)
})

test('a node of 1025 links is refused', () => {
  const links = Array.from({ length: linksMax + 1 }, () => chunk(1))
  expect(() => decodeNode(encodeNode(links))).toThrow('more than 1024 links')
})

test.for([
  ['no links', [], 'no links'],
  ['an empty chunk', [chunk(0)], 'no bytes'],
  ['a chunk above 1 MiB', [chunk(MiB + 1)], 'a chunk of'],
  ['a chunk with another Tsize', [{ ...chunk(5), tsize: 6 }], 'a chunk of'],
  ['a file above 16 TiB', [subtree(16 * TiB, 1, 1), chunk(1)], 'a file of'],
  [
    'a link to a manifest',
    [{ ...chunk(5), cid: makeCid(codecs.dagCbor, nobleSha256(Buffer.of(1))) }],
    'no part of a file',
  ],
] satisfies [string, Link[], string][])('refuses %s', ([, links, reason]) => {
  expect(() => decodeNode(encodeNode(links))).toThrow(reason)
})

/** dag-pb in hex, each part replaceable: one chunk of 5 bytes and one of 300. */
const parts = {
  hash: '0a24' + '01551220' + '11'.repeat(32),
  name: '1200',
  tsize: '1805',
  type: '0802',
  filesize: '18b102',
  blocksizes: '200520ac02',
  inlineData: '',
  mode: '',
  afterLink: '',
  afterData: '',
}

function node(changes: Partial<typeof parts> = {}): Buffer {
  const p = { ...parts, ...changes }
  const second = '0a2401551220' + '22'.repeat(32) + '1200' + '18ac02'
  const links = field('12', p.hash + p.name + p.tsize + p.afterLink) + field('12', second)
  const data = field('0a', p.type + p.inlineData + p.filesize + p.blocksizes + p.mode)
  return Buffer.from(links + data + p.afterData, 'hex')
}

function field(tag: string, content: string): string {
  return tag + (content.length / 2).toString(16).padStart(2, '0') + content
}

test('the node that the next cases damage is valid', () => {
  expect(decodeNode(node())).toMatchObject({ size: 305, tsize: 305 + node().length })
})

test.for([
  ['a number padded with a zero', { tsize: '188500' }],
  ['a number above 2^53', { filesize: '18ffffffffffffffff7f' }],
  ['a number that never ends', { filesize: '1880808080808080808080808001' }],
  ['a name', { name: '120161' }],
  ['no name', { name: '' }],
  ['no Tsize', { tsize: '' }],
  ['fields of a link in another order', { name: '1805', tsize: '1200' }],
  ['an unknown field in a link', { afterLink: '2001' }],
  ['a CID of version 0', { hash: '0a221220' + '11'.repeat(32) }],
  ['a hash that is not sha2-256', { hash: '0a2401551e20' + '11'.repeat(32) }],
  ['an identity CID', { hash: '0a0501550001ff' }],
  ['a directory', { type: '0801' }],
  ['a symlink', { type: '0804' }],
  ['a raw node', { type: '0800' }],
  ['bytes inside the node', { inlineData: '1201ff' }],
  ['a file size that is not the sum', { filesize: '18b202' }],
  ['no file size', { filesize: '' }],
  ['a block size too few', { blocksizes: '2005' }],
  ['a block size too many', { blocksizes: '200520ac022001' }],
  ['packed block sizes', { blocksizes: '220305ac02' }],
  ['a mode', { mode: '38a403' }],
  ['an mtime', { mode: '42020801' }],
  ['data twice', { afterData: '0a00' }],
  ['a link after the data', { afterData: '1200' }],
  ['an unknown field', { afterData: '1801' }],
] satisfies [string, Partial<typeof parts>][])('refuses %s', ([, changes]) => {
  expect(() => decodeNode(node(changes))).toThrow('a bad DAG node')
})

test('refuses a node that is cut short anywhere', () => {
  const valid = node()
  for (let length = 0; length < valid.length; length += 1) {
    expect(() => decodeNode(valid.subarray(0, length))).toThrow('a bad DAG node')
  }
})

test('refuses data before links, as unixfs-v1-2026 writes them', () => {
  const valid = node()
  const data = valid.length - 12
  const swapped = Buffer.concat([valid.subarray(data), valid.subarray(0, data)])
  expect(() => decodeNode(swapped)).toThrow('no links')
})

test('emptyFile is the CID of no bytes', () => {
  expect(emptyFile.toString()).toBe(rawCid(nobleSha256(new Uint8Array(0))).toString())
})
