/**
 * The limits on what this node sends and fetches, for all peers together, and to whom they apply: not
 * to who is on this machine or its LAN, where nobody's line gets full. They can be changed while bytes
 * flow.
 */

import type { Multiaddr } from '@multiformats/multiaddr'
import type { Clock } from '../../core/clock.ts'
import { RateLimit } from '../../core/rate-limit.ts'
import { isPublic, isRelayed } from '../addresses.ts'

export interface BandwidthOptions {
  /** Bytes per second; no limit when left out. */
  readonly maxDown?: number | undefined
  readonly maxUp?: number | undefined
  /** The limits hold for peers on the LAN too. */
  readonly limitLan?: boolean
}

export interface Bandwidth {
  readonly down: RateLimit
  readonly up: RateLimit
  readonly limitLan: boolean
  /** Whether the limits hold for a peer that is connected from or to this address. */
  isLimited(address: Multiaddr): boolean
}

export function openBandwidth(clock: Clock, options: BandwidthOptions = {}): Bandwidth {
  const { maxDown, maxUp, limitLan = false } = options
  return {
    down: new RateLimit(clock, maxDown),
    up: new RateLimit(clock, maxUp),
    limitLan,
    // Behind a relay the address is the relay's: who is at the other end may be anywhere.
    isLimited: address => limitLan || isPublic(address) || isRelayed(address),
  }
}
