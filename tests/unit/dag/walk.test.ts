import fc from 'fast-check'
import { expect, test } from 'vitest'
import { codecs, makeCid, parseCid, rawCid } from '../../../src/core/cid.ts'
import { sha256 } from '../../../src/core/digest.ts'
import { GiB, KiB, MiB } from '../../../src/core/units.ts'
import type { ChunkTable } from '../../../src/dag/chunk-table.ts'
import { planChunks } from '../../../src/dag/chunking.ts'
import {
  buildDag,
  type DagNode,
  decodeNode,
  emptyFile,
  encodeNode,
  type Link,
} from '../../../src/dag/unixfs.ts'
import { type FileLeaf, walkFile } from '../../../src/dag/walk.ts'
import { inventedTable, nodeGetter, zerosTable } from '../../support/dags.ts'

async function leavesOf(table: ChunkTable): Promise<FileLeaf[]> {
  const { root, nodes } = buildDag(table)
  return Array.fromAsync(walkFile(root, table.size, nodeGetter(nodes)))
}

function refsOf(leaves: readonly FileLeaf[]): { cid: string; offset: number; length: number }[] {
  return leaves.map(leaf => ({ ...leaf, cid: leaf.cid.toString() }))
}

function expectedOf(table: ChunkTable): { cid: string; offset: number; length: number }[] {
  return Array.from({ length: table.count }, (_, index) => {
    const { digest, offset, length } = table.ref(index)
    return { cid: rawCid(digest).toString(), offset, length }
  })
}

test.for([1, 2, 1024, 1025, 2049])('gives the %i leaves of a file in order', async count => {
  const table = inventedTable(count, index => 200 * KiB + index)
  expect(refsOf(await leavesOf(table))).toEqual(expectedOf(table))
})

test('walks a file of zeros, whose nodes repeat', async () => {
  const table = zerosTable(5 * GiB + 1)
  const { root, nodes } = buildDag(table)
  const getNode = nodeGetter(nodes)
  const leaves = await Array.fromAsync(walkFile(root, table.size, getNode))
  expect(leaves).toHaveLength(5121)
  expect(leaves.at(-1)).toMatchObject({ offset: 5 * GiB, length: 1 })
  expect(getNode.asked()).toBe(nodes.length)
})

test('walks a foreign DAG of another width and depth', async () => {
  const table = inventedTable(200, index => 200 * KiB + index)
  const nodes: DagNode[] = []
  let level: Link[] = expectedOf(table).map(({ cid, length }) => ({
    cid: parseCid(cid),
    size: length,
    tsize: length,
  }))
  while (level.length > 1) {
    const groups = Array.from({ length: Math.ceil(level.length / 3) }, (_, index) =>
      level.slice(index * 3, index * 3 + 3),
    )
    level = groups.map(links => {
      const block = encodeNode(links)
      const cid = makeCid(codecs.dagPb, sha256(block))
      nodes.push({ cid, block })
      const { size, tsize } = decodeNode(block)
      return { cid, size, tsize }
    })
  }
  const root = level[0]?.cid ?? emptyFile
  const leaves = await Array.fromAsync(walkFile(root, table.size, nodeGetter(nodes)))
  expect(refsOf(leaves)).toEqual(expectedOf(table))
})

test('an empty file has no leaves', async () => {
  expect(await Array.fromAsync(walkFile(emptyFile, 0, nodeGetter([])))).toEqual([])
  const other = rawCid(sha256(Buffer.from('x')))
  await expect(Array.fromAsync(walkFile(other, 0, nodeGetter([])))).rejects.toThrow('empty file')
})

test('every plan of cw-chunk-1 is within the bounds of a walk', async () => {
  const segment = fc.oneof(
    fc.integer({ min: 1, max: 3 }),
    fc.constantFrom(256 * KiB - 1, 256 * KiB, MiB, MiB + 1),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(segment, { minLength: 1, maxLength: 400 }), async lengths => {
      let size = 0
      const starts = lengths.map(length => (size += length) - length)
      const chunks = planChunks(size, starts)
      const table = inventedTable(chunks.length, index => chunks[index] ?? 0)
      expect(await leavesOf(table)).toHaveLength(chunks.length)
    }),
    { numRuns: 60 },
  )
})

test('stops when told to, before it asks for another node', async () => {
  const table = inventedTable(3000, () => 200 * KiB)
  const { root, nodes } = buildDag(table)
  const getNode = nodeGetter(nodes)
  const stop = new AbortController()
  const walk = walkFile(root, table.size, getNode, { signal: stop.signal })
  await walk.next()
  const asked = getNode.asked()
  stop.abort()
  await expect(Array.fromAsync(walk)).rejects.toThrow('aborted')
  expect(getNode.asked()).toBe(asked)
})
