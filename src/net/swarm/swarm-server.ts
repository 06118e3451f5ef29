/**
 * Serves all peers from what this machine holds: what they share (the budgets of bytes and watches),
 * the telling of changes, and the dropping of peers that stopped reading.
 */

import { BufferPool } from '../../core/buffers.ts'
import type { Clock } from '../../core/clock.ts'
import { UnavailableError } from '../../core/errors.ts'
import { MiB, minute, second } from '../../core/units.ts'
import type { HeldChange } from '../../store/store.ts'
import type { Bandwidth } from '../upload/bandwidth.ts'
import { openByteBudget } from '../upload/byte-budget.ts'
import { keyOf } from './have-feed.ts'
import type { ServedBudgets, ServerDeps } from './served-answers.ts'
import { type ServedPace, ServedPeer } from './served-peer.ts'
import type { Serving, ServingPort } from './swarm-channel.ts'
import { openUploadSlots, slotsFor, uploadSlotsMax } from '../upload/upload-slots.ts'

/** Watches of all peers together, 400 bytes each; a peer that asks for more is sent away. */
export const watchesTotalMax = 250_000
/** Chunks read or being sent to all peers together: one each for the most peers a swarm has. */
export const chunkBytesTotalMax = 256 * MiB
/** Manifests and tables, apart: they are larger, and must not hold up chunks. */
export const documentBytesTotalMax = 128 * MiB
/** Two a lane: one being sent and the next. More lanes than this at a time are rare. */
const buffersKeptMax = 32
/** Changes are told this often: a download of 500 chunks a second must not make 500 frames a peer. */
export const haveIntervalMs = 100
/** Ranges of changes collected between two ticks before they are told early. */
const changesMax = 10_000
/** A peer that takes less than a piece (256 KiB) in this time holds memory that others could use. */
export const stallMs = minute
const sweepMs = 15 * second
/** A peer that bans us in vain costs at most one more hash of each chunk in this time. */
export const recheckIntervalMs = minute

export interface SwarmServer extends Disposable {
  readonly budgets: ServedBudgets
  serve(port: ServingPort): Serving
}

export function openSwarmServer(deps: ServerDeps & { readonly bandwidth: Bandwidth }): SwarmServer {
  const stop = new AbortController()
  const peers = new Set<ServedPeer>()
  const budgets: ServedBudgets = {
    chunks: openByteBudget(chunkBytesTotalMax),
    documents: openByteBudget(documentBytesTotalMax),
    buffers: new BufferPool(buffersKeptMax),
    watchesLeft: watchesTotalMax,
    recheck: recheckSometimes(deps),
  }
  const { clock, bandwidth } = deps
  const { up } = bandwidth
  const limited: ServedPace = {
    limit: up,
    slots: openUploadSlots(clock, () => slotsFor(up.bytesPerSecond)),
  }
  // Slots of their own: a LAN does not wait for a thin line.
  const free: ServedPace = {
    limit: undefined,
    slots: openUploadSlots(clock, () => uploadSlotsMax),
  }
  const stopChanges = deps.reader.onHeldChange(collectChanges(peers, deps.clock, stop.signal))
  void sweep(peers, deps, stop.signal)
  return {
    budgets,
    serve(port) {
      const peer = new ServedPeer(port, deps, budgets, port.isLimited ? limited : free)
      peers.add(peer)
      const onClosed = (): void => {
        peers.delete(peer)
        peer.closed()
      }
      port.transport.closed.addEventListener('abort', onClosed, { once: true })
      return peer
    },
    [Symbol.dispose]() {
      stopChanges()
      stop.abort()
    },
  }
}

/** Forgets what was hashed, at most once in an interval over all peers. */
function recheckSometimes({ reader, clock, log }: ServerDeps): () => void {
  let lastMs = -Infinity
  return () => {
    const nowMs = clock.monotonic()
    if (nowMs - lastMs < recheckIntervalMs) return
    lastMs = nowMs
    log.info('a peer bans us: what we serve is hashed again')
    reader.recheck()
  }
}

/** Listens to the store and tells all peers at the next tick. */
function collectChanges(
  peers: ReadonlySet<ServedPeer>,
  clock: Clock,
  signal: AbortSignal,
): (change: HeldChange) => void {
  let collected: HeldChange[] = []
  let isTicking = false
  const tell = (): void => {
    const changes = collected
    collected = []
    for (const change of changes) {
      const key = keyOf(change.root)
      for (const peer of peers) peer.feed.changed(key, change)
    }
  }
  const tick = async (): Promise<void> => {
    isTicking = true
    try {
      await clock.sleep(haveIntervalMs, signal)
      tell()
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      isTicking = false
    }
  }
  return change => {
    // Nobody to tell; who comes later asks for the state.
    if (peers.size === 0) return
    collected.push(change)
    if (collected.length >= changesMax) tell()
    if (!isTicking) void tick()
  }
}

/** Drops peers that stopped reading: one timer for all of them. */
async function sweep(
  peers: ReadonlySet<ServedPeer>,
  { clock, log }: ServerDeps,
  signal: AbortSignal,
): Promise<void> {
  const isStalled = (peer: ServedPeer): boolean =>
    peer.bytesPending > 0 && clock.monotonic() - peer.progressAtMs >= stallMs
  try {
    for (;;) {
      await clock.sleep(sweepMs, signal)
      for (const { port } of [...peers].filter(isStalled)) {
        log.debug('peer stalled', { peer: port.peer })
        port.transport.abort(new UnavailableError('the peer does not read what it asked for'))
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
