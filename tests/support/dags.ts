/** DAGs for tests: tables without content, and block getters over built nodes. */

import { type CID, digestOf } from '../../src/core/cid.ts'
import { MiB } from '../../src/core/units.ts'
import { digestBytes, sha256 } from '../../src/core/digest.ts'
import { ChunkTable, recordBytes } from '../../src/dag/chunk-table.ts'
import type { DagNode } from '../../src/dag/unixfs.ts'
import { type VerifiedBlock, verifyBlock } from '../../src/dag/verify.ts'
import type { NodeGetter } from '../../src/dag/walk.ts'
import type { DagCase } from './vectors.ts'

/** The table of a file of zeros in leaves of 1 MiB, hashing only the two kinds of leaf. */
export function zerosTable(size: number): ChunkTable {
  const full = { digest: sha256(new Uint8Array(MiB)), length: MiB }
  const rest = size % MiB
  const refs = Array.from({ length: Math.floor(size / MiB) }, () => full)
  if (rest > 0) refs.push({ digest: sha256(new Uint8Array(rest)), length: rest })
  return ChunkTable.fromRefs(refs)
}

/** `count` leaves with the digests of `leaf:0`, `leaf:1` … and these lengths. */
export function inventedTable(count: number, lengthOf: (index: number) => number): ChunkTable {
  const records = Buffer.alloc(count * recordBytes)
  for (let index = 0; index < count; index += 1) {
    const record = records.subarray(index * recordBytes)
    record.set(sha256(Buffer.from(`leaf:${index}`)))
    record.writeUInt32LE(lengthOf(index), digestBytes)
  }
  return new ChunkTable(records)
}

export function tableOf({ leaves }: DagCase): ChunkTable {
  return 'zeros' in leaves
    ? zerosTable(leaves.zeros)
    : inventedTable(leaves.uneven, index => 1 + ((index * 7919) % MiB))
}

/** Gives the nodes it was made with, and counts how often it was asked. */
export function nodeGetter(
  nodes: readonly DagNode[],
): NodeGetter & { readonly asked: () => number } {
  const blocks = new Map(nodes.map(({ cid, block }) => [keyOf(cid), block]))
  let asked = 0
  const get = (cid: CID): Promise<VerifiedBlock> => {
    asked += 1
    const block = blocks.get(keyOf(cid))
    return block === undefined
      ? Promise.reject(new Error(`no node ${cid.toString()}`))
      : Promise.resolve(verifyBlock(cid, block))
  }
  return Object.assign(get, { asked: () => asked })
}

function keyOf(cid: CID): string {
  return Buffer.from(digestOf(cid)).toString('hex')
}
