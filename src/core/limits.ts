/** Bounds that several layers share; docs/spec/limits.md lists these and all others. */

import { KiB, MiB, TiB } from './units.ts'

/**
 * The largest chunk cw-chunk-1 makes, and the largest any peer may send: bitswap peers and gateways
 * of all versions take a block of this size.
 */
export const chunkBytesMax = MiB

/** The largest file: far above any shard that a hub takes, and far below where numbers lose bytes. */
export const fileBytesMax = 16 * TiB

/**
 * Bytes of one write. The kernel takes memory for a larger one in larger blocks. On a virtual machine that
 * gives free blocks back to its host, those have to be fetched again: 1 MiB at a time took five times as long.
 */
export const writePieceBytes = 64 * KiB
