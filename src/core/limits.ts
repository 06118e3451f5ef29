/** Bounds that several layers share; docs/spec/limits.md lists these and all others. */

import { MiB, TiB } from './units.ts'

/**
 * The largest chunk cw-chunk-1 makes, and the largest any peer may send: bitswap peers and gateways
 * of all versions take a block of this size.
 */
export const chunkBytesMax = MiB

/** The largest file: far above any shard that a hub takes, and far below where numbers lose bytes. */
export const fileBytesMax = 16 * TiB
