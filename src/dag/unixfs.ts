/**
 * A file as a UnixFS DAG: raw leaves, balanced nodes of 1024 links, dag-pb with the links before the
 * data. With fixed 1 MiB chunks these are the CIDs of the IPFS profile unixfs-v1-2025 (IPIP-499).
 * Nodes are derived from the chunk table alone; content is never touched.
 */

import { type CID, cidBytes, codecs, makeCid, rawCid } from '../core/cid.ts'
import { digestBytes, sha256 } from '../core/digest.ts'
import { InvalidInputError } from '../core/errors.ts'
import { chunkBytesMax, fileBytesMax } from '../core/limits.ts'
import { KiB } from '../core/units.ts'
import type { ChunkTable } from './chunk-table.ts'
import { ProtobufReader, ProtobufWriter, varintBytes } from './protobuf.ts'

/** Links of a node, in every profile since unixfs-v1-2025. */
export const linksMax = 1024

export interface DagNode {
  readonly cid: CID
  /** The dag-pb bytes. */
  readonly block: Uint8Array
}

/** A child of a node. */
export interface Link {
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

/** The root of a file without bytes: its one leaf is empty. */
export const emptyFile = rawCid(sha256(new Uint8Array(0)))

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

/**
 * The bytes of a node; what decodeNode accepts and nothing else.
 * dag-pb: Links (Hash, Name empty but present, Tsize), then Data (UnixFS file, no mode, no mtime).
 */
export function encodeNode(children: readonly Link[]): Uint8Array {
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

/** A node of our own encoding has at most 61,455 bytes. */
export const nodeBytesMax = 64 * KiB

export interface FileNode {
  /** 1 to linksMax. */
  readonly links: readonly Link[]
  /** Bytes of the file below this node: the sum over its links. */
  readonly size: number
  readonly tsize: number
}

/**
 * Reads one inner node of a file's DAG, ours or foreign; throws InvalidInputError. There is one
 * encoding of each node and only that is read, so nothing can hide in a node that our own encoder
 * would not write. This takes what kubo and boxo write with the profile unixfs-v1-2025 or with
 * `--cid-version=1 --raw-leaves`, of any width up to 1024 and any chunk up to 1 MiB. Refused are
 * directories, symlinks, CIDv0 and other hashes, names, mode and mtime, bytes inside inner nodes
 * (trickle DAGs, dag-pb leaves), data before links (unixfs-v1-2026) and sizes that do not add up.
 */
export function decodeNode(block: Uint8Array): FileNode {
  if (block.length > nodeBytesMax) throw malformed(`${block.length} bytes`)
  const reader = new ProtobufReader(block)
  const children = decodeLinks(reader)
  reader.expect(tags.node.data)
  const data = new ProtobufReader(reader.raw(reader.varint()))
  if (!reader.isDone) throw malformed('bytes after the data')

  data.expect(tags.file.type)
  data.expect(unixfsFile)
  data.expect(tags.file.filesize)
  const size = data.varint()
  const links = children.map(child => {
    data.expect(tags.file.blocksizes)
    return checkLink({ ...child, size: data.varint() })
  })
  if (!data.isDone) throw malformed('more block sizes than links')
  if (sumOf(links, 'size') !== size) throw malformed(`a file size that is not the sum of its parts`)
  if (size > fileBytesMax) throw malformed(`a file of ${size} bytes`)
  return { links, size, tsize: block.length + sumOf(links, 'tsize') }
}

function decodeLinks(reader: ProtobufReader): Omit<Link, 'size'>[] {
  const links: Omit<Link, 'size'>[] = []
  while (reader.peek() === tags.node.links) {
    if (links.length === linksMax) throw malformed(`more than ${linksMax} links`)
    reader.expect(tags.node.links)
    const link = new ProtobufReader(reader.raw(reader.varint()))
    link.expect(tags.link.hash)
    link.expect(cidBytes)
    const cid = linkCid(link.raw(cidBytes))
    link.expect(tags.link.name)
    link.expect(0)
    link.expect(tags.link.tsize)
    links.push({ cid, tsize: link.varint() })
    if (!link.isDone) throw malformed('bytes after a link')
  }
  if (links.length === 0) throw malformed('no links')
  return links
}

/** Version 1, raw or dag-pb, sha2-256 of 32 bytes. */
function linkCid(bytes: Uint8Array): CID {
  const [version, codec, hash, length] = bytes
  const isNode = codec === codecs.dagPb
  if (
    version !== 1 ||
    hash !== 0x12 ||
    length !== digestBytes ||
    !(isNode || codec === codecs.raw)
  ) {
    throw malformed('a link to something that is no part of a file')
  }
  return makeCid(isNode ? codecs.dagPb : codecs.raw, bytes.subarray(cidBytes - digestBytes))
}

function checkLink(link: Link): Link {
  const { cid, size, tsize } = link
  if (size === 0) throw malformed('a link to no bytes')
  if (cid.code === codecs.raw && (size > chunkBytesMax || tsize !== size)) {
    throw malformed(`a chunk of ${size} bytes (Tsize ${tsize})`)
  }
  return link
}

function sumOf(links: readonly Link[], field: 'size' | 'tsize'): number {
  return links.reduce((sum, link) => sum + link[field], 0)
}

function malformed(reason: string): InvalidInputError {
  return new InvalidInputError(`a bad DAG node: ${reason}`)
}
