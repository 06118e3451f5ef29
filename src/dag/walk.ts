/**
 * From a file's root to its leaves, in file order. The DAG may be foreign and hostile: how much is
 * walked is bounded by how many bytes of the file have been reached, never by what nodes claim.
 */

import { type CID, codecs, digestOf, sameCid } from '../core/cid.ts'
import { InvalidInputError, LimitError } from '../core/errors.ts'
import { viewOf } from '../core/bytes.ts'
import { chunkBytesMax, fileBytesMax } from '../core/limits.ts'
import { smallSegmentBytes } from './chunking.ts'
import { decodeNode, emptyFile, type FileNode, type Link } from './unixfs.ts'
import type { VerifiedBlock } from './verify.ts'

/** The largest file has three levels of our width; eight allow for every width in use since 2014. */
export const depthMax = 8

export interface FileLeaf {
  readonly cid: CID
  /** Position in the file. */
  readonly offset: number
  /** As the DAG declares it; a leaf of another length is damaged or lied about. */
  readonly length: number
}

export interface WalkOptions {
  readonly signal?: AbortSignal
}

/** Gives the block of an inner node; rejects when it cannot. */
export type NodeGetter = (cid: CID, options: WalkOptions) => Promise<VerifiedBlock>

/**
 * The leaves of the file `root` of `size` bytes. Throws InvalidInputError when the DAG is malformed
 * or declares other sizes, LimitError when it is deeper or finer than any honest file. What was
 * yielded before is then still in order and of the declared lengths, but not a whole file.
 */
export async function* walkFile(
  root: CID,
  size: number,
  getNode: NodeGetter,
  options: WalkOptions = {},
): AsyncGenerator<FileLeaf> {
  if (size > fileBytesMax) throw new LimitError(`a file of ${size} bytes; at most ${fileBytesMax}`)
  if (size === 0) {
    if (!sameCid(root, emptyFile))
      throw new InvalidInputError(`${root.toString()} is not the empty file`)
    return
  }
  const bounds = new WalkBounds()
  const path: Iterator<Link>[] = [[{ cid: root, size, tsize: NaN }].values()]
  let offset = 0
  while (path.length > 0) {
    const next = path.at(-1)?.next()
    if (next === undefined || next.done === true) {
      path.pop()
      continue
    }
    const link = next.value
    bounds.visit(offset, path.length)
    if (link.cid.code === codecs.dagPb) {
      path.push((await openNode(link, getNode, options)).links.values())
      continue
    }
    bounds.checkLeaf(link)
    yield { cid: link.cid, offset, length: link.size }
    offset += link.size
  }
}

async function openNode(link: Link, getNode: NodeGetter, options: WalkOptions): Promise<FileNode> {
  options.signal?.throwIfAborted()
  const { bytes } = await getNode(link.cid, options)
  const node = decodeNode(bytes)
  if (node.size !== link.size) {
    throw new InvalidInputError(
      `${link.cid.toString()} has ${node.size} bytes, not the ${link.size} declared`,
    )
  }
  // Nobody declares the Tsize of the root.
  if (!Number.isNaN(link.tsize) && node.tsize !== link.tsize) {
    throw new InvalidInputError(
      `${link.cid.toString()} has a Tsize of ${node.tsize}, not ${link.tsize}`,
    )
  }
  return node
}

/** What one walk has met, against what an honest file of as many bytes can have. */
class WalkBounds {
  #visited = 0
  /** Declared bytes of each leaf by its digest: the same bytes cannot have two lengths. */
  readonly #leafBytes = new Map<string, number>()

  visit(offset: number, depth: number): void {
    this.#visited += 1
    if (depth > depthMax + 1) throw new LimitError(`a DAG of more than ${depthMax} levels`)
    if (this.#visited > nodesMax(offset)) {
      throw new LimitError(`a DAG of ${this.#visited} nodes for the first ${offset} bytes`)
    }
  }

  checkLeaf({ cid, size }: Link): void {
    if (cid.code !== codecs.raw || size > chunkBytesMax) {
      throw new InvalidInputError(`${cid.toString()} cannot be a chunk of ${size} bytes`)
    }
    const key = viewOf(digestOf(cid)).toString('latin1')
    const before = this.#leafBytes.get(key) ?? size
    if (before !== size) {
      throw new InvalidInputError(
        `${cid.toString()} is declared with ${before} and with ${size} bytes`,
      )
    }
    this.#leafBytes.set(key, size)
  }
}

/**
 * Leaves and inner nodes that a walk may meet before byte `offset`: twice what the finest plan of
 * cw-chunk-1 needs, which is two chunks (one of small tensors, one large) for each 256 KiB. Foreign
 * files in chunks of 128 KiB or more pass too, finer ones do not.
 */
function nodesMax(offset: number): number {
  const leavesMax = 2 * Math.ceil(offset / smallSegmentBytes) + 3
  return 2 * leavesMax + depthMax
}
