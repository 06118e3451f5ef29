/**
 * A file as a UnixFS DAG: raw leaves, balanced nodes of 1024 links, dag-pb with the links before the
 * data. With fixed 1 MiB chunks these are the CIDs of the IPFS profile unixfs-v1-2025 (IPIP-499).
 * Nodes are derived from the chunk table alone; content is never touched.
 */

import { type CID, cidBytes, codecs, makeCid, rawCid } from '../core/cid.ts'
import { sha256 } from '../core/digest.ts'
import type { ChunkTable } from './chunk-table.ts'
import { ProtobufWriter, varintBytes } from './protobuf.ts'

/** Links of a node, in every profile since unixfs-v1-2025. */
export const linksMax = 1024

export interface DagNode {
  readonly cid: CID
  /** The dag-pb bytes. */
  readonly block: Uint8Array
}

/** One child while a level is built. */
interface Link {
  readonly cid: CID
  /** Bytes of the file below it. */
  readonly size: number
  /** Bytes of all blocks below it and itself: dag-pb's Tsize. */
  readonly tsize: number
}

export interface FileDag {
  readonly root: CID
  /** Tsize of the root. */
  readonly tsize: number
  /** Inner nodes, lowest level first, left to right. */
  readonly nodes: DagNode[]
}

/** Builds every inner node of a file; a file of one chunk has none, its leaf is the root. */
export function buildDag(table: ChunkTable): FileDag {
  const nodes: DagNode[] = []
  const { cid, tsize } = build(table, node => nodes.push(node))
  return { root: cid, tsize, nodes }
}

/** The root alone: nodes are hashed and forgotten. */
export function rootOf(table: ChunkTable): CID {
  return build(table, () => undefined).cid
}

const emptyFile = rawCid(sha256(new Uint8Array(0)))

function build(table: ChunkTable, onNode: (node: DagNode) => void): Link {
  if (table.count === 0) return { cid: emptyFile, size: 0, tsize: 0 }
  if (table.count === 1) return leaf(table, 0)

  let level: Link[] = []
  // Leaf links exist 1024 at a time: 774,540 of them at once would take 280 MB.
  for (let start = 0; start < table.count; start += linksMax) {
    const end = Math.min(start + linksMax, table.count)
    const children = Array.from({ length: end - start }, (_, index) => leaf(table, start + index))
    level.push(parentOf(children, onNode))
  }
  while (level.length > 1) {
    const above: Link[] = []
    for (let start = 0; start < level.length; start += linksMax) {
      above.push(parentOf(level.slice(start, start + linksMax), onNode))
    }
    level = above
  }
  return level[0] as Link
}

function leaf(table: ChunkTable, index: number): Link {
  const size = table.length(index)
  return { cid: rawCid(table.digest(index)), size, tsize: size }
}

function parentOf(children: readonly Link[], onNode: (node: DagNode) => void): Link {
  const block = encodeNode(children)
  const cid = makeCid(codecs.dagPb, sha256(block))
  onNode({ cid, block })
  let size = 0
  let tsize = block.length
  for (const child of children) {
    size += child.size
    tsize += child.tsize
  }
  return { cid, size, tsize }
}

// Field tags: number << 3 | wire type (0 varint, 2 bytes).
const tags = {
  node: { data: 0x0a, links: 0x12 },
  link: { hash: 0x0a, name: 0x12, tsize: 0x18 },
  file: { type: 0x08, filesize: 0x18, blocksizes: 0x20 },
} as const
const unixfsFile = 2

/** dag-pb: Links (Hash, Name empty but present, Tsize), then Data (UnixFS file, no mode, no mtime). */
function encodeNode(children: readonly Link[]): Uint8Array {
  let filesize = 0
  let linksBytes = 0
  let blocksizesBytes = 0
  for (const { size, tsize } of children) {
    filesize += size
    const linkBytes = linkBytesOf(tsize)
    linksBytes += 1 + varintBytes(linkBytes) + linkBytes
    blocksizesBytes += 1 + varintBytes(size)
  }
  const dataBytes = 2 + 1 + varintBytes(filesize) + blocksizesBytes
  const writer = new ProtobufWriter(linksBytes + 1 + varintBytes(dataBytes) + dataBytes)
  for (const { cid, tsize } of children) {
    writer.varint(tags.node.links)
    writer.varint(linkBytesOf(tsize))
    writer.varint(tags.link.hash)
    writer.varint(cidBytes)
    writer.raw(cid.bytes)
    writer.varint(tags.link.name)
    writer.varint(0)
    writer.varint(tags.link.tsize)
    writer.varint(tsize)
  }
  writer.varint(tags.node.data)
  writer.varint(dataBytes)
  writer.varint(tags.file.type)
  writer.varint(unixfsFile)
  writer.varint(tags.file.filesize)
  writer.varint(filesize)
  for (const { size } of children) {
    writer.varint(tags.file.blocksizes)
    writer.varint(size)
  }
  return writer.bytes
}

function linkBytesOf(tsize: number): number {
  return 2 + cidBytes + 2 + 1 + varintBytes(tsize)
}
