/** Bounds that several layers share; docs/spec/limits.md lists these and all others. */

import { MiB, TiB } from './units.ts'

/**
 * The largest chunk cw-chunk-1 makes, and the largest any peer may send: bitswap peers and gateways
 * of all versions take a block of this size.
 */
export const chunkBytesMax = MiB

/** The largest file: 16 times the largest shard anyone publishes would still be far below. */
export const fileBytesMax = 16 * TiB
