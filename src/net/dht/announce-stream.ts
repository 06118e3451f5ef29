/**
 * Leaves provider records with one server: many on one stream, pipelined. ADD_PROVIDER has no answer,
 * so each batch ends with a ping: a server handles a stream's messages in order and resets it when one
 * fails, so the echo means that all before it were taken.
 */

import type { Libp2p, PeerId } from '@libp2p/interface'
import { lpStream } from '@libp2p/utils'
import type { Clock } from '../../core/clock.ts'
import { ProtocolError } from '../../core/errors.ts'
import { second } from '../../core/units.ts'
import { dhtProtocol } from './dht.ts'
import {
  decodeKadMessage,
  encodeKadMessage,
  kadMessageBytesMax,
  type KadPeer,
  messageTypes,
} from './kad-messages.ts'
import { openTokenBuckets } from '../../core/token-buckets.ts'

/** 128 records are some 40 KB: within a stream's first window, and a second's work for a slow server. */
const batchKeys = 128
/** Per batch, and to open the stream: a frozen server holds up a sixth of the sweep this long. */
const serverTimeoutMs = 5 * second
/** Below what our own servers take (providerLimits): whoever sends more is cut off. */
const sendRate = { perSecond: 45, burst: 4500 } as const
const paceMs = second

export interface AnnounceSender {
  /** Resolves with how many of `keys` were taken, from the first on. Never rejects but on abort. */
  send(server: PeerId, keys: readonly Uint8Array[], signal: AbortSignal): Promise<Sent>
}

export interface Sent {
  readonly taken: number
  /** Why not all were. */
  readonly error?: unknown
}

export function openAnnounceSender(deps: {
  readonly libp2p: Libp2p
  readonly clock: Clock
  /** This node as the record names it. */
  self(): KadPeer
}): AnnounceSender {
  const { libp2p, clock } = deps
  const buckets = openTokenBuckets(clock, sendRate)

  /** Waits until the server's rate allows some; resolves with how many. */
  async function allowed(server: string, wanted: number, signal: AbortSignal): Promise<number> {
    for (;;) {
      const count = buckets.take(server, wanted)
      if (count > 0) return count
      await clock.sleep(paceMs, signal)
    }
  }

  async function sendBatch(
    server: PeerId,
    keys: readonly Uint8Array[],
    signal: AbortSignal,
  ): Promise<void> {
    const timeout = AbortSignal.any([signal, AbortSignal.timeout(serverTimeoutMs)])
    const stream = await libp2p.dialProtocol(server, dhtProtocol, { signal: timeout })
    try {
      const messages = lpStream(stream, { maxDataLength: kadMessageBytesMax })
      const options = { signal: timeout }
      const providers = [deps.self()]
      const { addProvider, ping } = messageTypes
      const records = keys.map(key => encodeKadMessage({ type: addProvider, key, providers }))
      const last = encodeKadMessage({ type: ping, key: new Uint8Array() })
      await messages.writeV([...records, last], options)
      const echo = decodeKadMessage((await messages.read(options)).subarray())
      if (echo.type !== ping) throw new ProtocolError('a DHT ping was not answered by its echo')
      await stream.close(options)
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  }

  return {
    async send(server, keys, signal) {
      let taken = 0
      try {
        while (taken < keys.length) {
          const wanted = Math.min(batchKeys, keys.length - taken)
          const count = await allowed(server.toString(), wanted, signal)
          await sendBatch(server, keys.slice(taken, taken + count), signal)
          taken += count
        }
        return { taken }
      } catch (error) {
        signal.throwIfAborted()
        return { taken, error }
      }
    },
  }
}
