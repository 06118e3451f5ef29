/** Foreign DAGs made to exhaust or to deceive: research T10. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type CID, codecs, makeCid, rawCid } from '../../src/core/cid.ts'
import { sha256 } from '../../src/core/digest.ts'
import { InvalidInputError, LimitError } from '../../src/core/errors.ts'
import { KiB, MiB, TiB } from '../../src/core/units.ts'
import { buildDag, type DagNode, decodeNode, encodeNode, type Link } from '../../src/dag/unixfs.ts'
import { type FileLeaf, walkFile } from '../../src/dag/walk.ts'
import { inventedTable, nodeGetter } from '../support/dags.ts'
import { fuzzTimeoutMs, untilTime } from '../support/fuzz.ts'
import { mutated } from '../support/mutations.ts'
import { cpuMs } from '../support/cpu-time.ts'

/** Nodes as an attacker makes them: any children, with any declared sizes. */
class HostileDag {
  readonly nodes: DagNode[] = []

  node(children: readonly Link[]): Link {
    const block = encodeNode(children)
    const cid = makeCid(codecs.dagPb, sha256(block))
    this.nodes.push({ cid, block })
    const sum = (field: 'size' | 'tsize'): number =>
      children.reduce((total, child) => total + child[field], 0)
    return { cid, size: sum('size'), tsize: block.length + sum('tsize') }
  }

  walk(root: CID, size: number): Promise<FileLeaf[]> {
    return Array.fromAsync(walkFile(root, size, nodeGetter(this.nodes)))
  }
}

function leaf(size: number, name = 'leaf'): Link {
  return { cid: rawCid(sha256(Buffer.from(name))), size, tsize: size }
}

/** `levels` nodes above the link, each of which has it `width` times. */
function tower(dag: HostileDag, bottom: Link, levels: number, width: number): Link {
  let top = bottom
  for (let level = 0; level < levels; level += 1) {
    top = dag.node(Array.from({ length: width }, () => top))
  }
  return top
}

test.for([
  ['40 levels of the same child twice', 40, 2, 1],
  ['4 levels of the same child 1024 times', 4, 1024, 1],
  ['8 levels of the same child 32 times', 8, 32, 1],
  ['2 levels of 1024 chunks of 1 KiB', 2, 1024, KiB],
  ['a chain of a thousand single links', 1000, 1, MiB],
] as const)('%s: refused at once', async ([, levels, width, leafBytes]) => {
  const dag = new HostileDag()
  const top = tower(dag, leaf(leafBytes), levels, width)
  const before = cpuMs()
  await expect(dag.walk(top.cid, top.size)).rejects.toThrow(LimitError)
  // Walked whole, they would take minutes, or for ever.
  expect(cpuMs() - before).toBeLessThan(1000)
})

test('many chains of single links are refused: they cost requests and hold nothing', async () => {
  const dag = new HostileDag()
  const chains = Array.from({ length: 1024 }, (_, index) =>
    tower(dag, leaf(KiB, `leaf ${index}`), 7, 1),
  )
  const top = dag.node(chains)
  await expect(dag.walk(top.cid, top.size)).rejects.toThrow(LimitError)
})

test('a file above 16 TiB is refused before any node is asked for', async () => {
  const getNode = nodeGetter([])
  const root = makeCid(codecs.dagPb, sha256(Buffer.from('root')))
  await expect(Array.fromAsync(walkFile(root, 16 * TiB + 1, getNode))).rejects.toThrow(LimitError)
  expect(getNode.asked()).toBe(0)
})

test.for([-1, 1])('a declared size that is off by %i is refused', async error => {
  const dag = new HostileDag()
  const child = dag.node([leaf(MiB, 'a'), leaf(MiB, 'b')])
  const top = dag.node([{ ...child, size: child.size + error }, leaf(5)])
  await expect(dag.walk(top.cid, top.size)).rejects.toThrow('declared')
  await expect(dag.walk(child.cid, child.size + error)).rejects.toThrow('declared')
})

test('a Tsize that is not the sum of the blocks is refused', async () => {
  const dag = new HostileDag()
  const child = dag.node([leaf(MiB, 'a'), leaf(MiB, 'b')])
  const top = dag.node([{ ...child, tsize: child.tsize + 1 }])
  await expect(dag.walk(top.cid, top.size)).rejects.toThrow('Tsize')
})

test('one chunk declared with two sizes is refused', async () => {
  const dag = new HostileDag()
  const top = dag.node([leaf(300 * KiB, 'same'), leaf(MiB, 'other'), leaf(301 * KiB, 'same')])
  await expect(dag.walk(top.cid, top.size)).rejects.toThrow('is declared with')
})

test('a raw root of more than 1 MiB and a root that is a manifest are refused', async () => {
  const dag = new HostileDag()
  await expect(dag.walk(leaf(1).cid, MiB + 1)).rejects.toThrow(InvalidInputError)
  const manifest = makeCid(codecs.dagCbor, sha256(Buffer.from('manifest')))
  await expect(dag.walk(manifest, 10)).rejects.toThrow(InvalidInputError)
})

test('a node whose block is something else is refused', async () => {
  const block = Buffer.from('not dag-pb at all')
  const cid = makeCid(codecs.dagPb, sha256(block))
  const walk = walkFile(cid, 10, nodeGetter([{ cid, block }]))
  await expect(Array.fromAsync(walk)).rejects.toThrow('a bad DAG node')
})

/** Decoded and encoded; the bytes themselves when they are refused as they should be. */
function encodedAgain(bytes: Uint8Array): Buffer {
  try {
    return Buffer.from(encodeNode(decodeNode(bytes).links))
  } catch (error) {
    if (error instanceof InvalidInputError) return Buffer.from(bytes)
    throw error
  }
}

const sample = buildDag(inventedTable(3, index => 1 + 300 * index)).nodes[0]?.block ?? Buffer.of()

test(
  'whatever bytes come, a node is refused as bad input or has exactly our encoding',
  () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), mutated(sample)), bytes => {
        expect(encodedAgain(bytes)).toEqual(Buffer.from(bytes))
      }),
      { plugins: [untilTime()], numRuns: 1e6 },
    )
  },
  fuzzTimeoutMs(),
)
