/**
 * The data plane, seen from the main thread: lanes that live in worker threads, where chunks are
 * received, checked and written to files that this thread opened. No byte of a chunk crosses threads.
 */

import { extname } from 'node:path'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { Logger } from '../core/log.ts'
import { MiB } from '../core/units.ts'
import type { LaneIdentity } from './certificate.ts'
import { InFlight } from './in-flight.ts'
import type { Lane, LaneSpec } from './plane-lane.ts'
import { PlaneThread } from './plane-thread.ts'

export interface Plane extends AsyncDisposable {
  /** The most lanes to one peer that are of use: each in a thread of its own. */
  readonly threads: number
  /** UnavailableError when no address leads to the peer. */
  openLane(spec: LaneSpec, options: { readonly signal: AbortSignal }): Promise<Lane>
}

export interface PlaneOptions {
  readonly threads?: number
  readonly bytesInFlightMax?: number
  /** For tests: a thread whose lanes are not TLS. */
  readonly start?: () => Worker
}

/** Four threads hash 5 GB/s: more than any disk or network they would share. */
const threadsMax = 4
/** Asked for and not yet written, over all downloads. It takes memory only as bytes arrive. */
const bytesInFlightMaxDefault = 128 * MiB

/** The garbage of small messages: V8 would let it grow to 48 MiB a thread. */
const maxYoungGenerationSizeMb = 4

/** The entry has this file's extension: .ts from a clone, .js from dist. */
const entry = new URL(`./worker${extname(import.meta.filename)}`, import.meta.url)

/** Threads start with the first lanes that need them. */
export function openPlane(
  deps: { readonly identity: LaneIdentity; readonly log: Logger },
  options: PlaneOptions = {},
): Plane {
  const { identity, log } = deps
  const count = options.threads ?? Math.min(threadsMax, availableParallelism())
  const inFlight = new InFlight(options.bytesInFlightMax ?? bytesInFlightMaxDefault)
  // The options that the program was started with are for its own entry, and some refuse another.
  const settings = {
    name: 'commonweight-bulk',
    execArgv: [],
    workerData: { identity },
    resourceLimits: { maxYoungGenerationSizeMb },
  }
  const start = options.start ?? ((): Worker => new Worker(entry, settings))
  const threads = Array.from({ length: count }, () => new PlaneThread({ start, inFlight, log }))
  return {
    threads: count,
    openLane({ peer, addresses }, { signal }) {
      const [thread] = threads.toSorted(
        (a, b) => a.lanesTo(peer) - b.lanesTo(peer) || a.lanes - b.lanes,
      )
      if (thread === undefined) throw new RangeError('a data plane without threads')
      return thread.openLane({ peer, addresses }, signal)
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(threads.map(thread => thread.end()))
    },
  }
}
