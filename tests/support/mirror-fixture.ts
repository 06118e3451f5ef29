/** Mirroring in one process: a real store and real hashing, a hub on loopback, and a clock that waits for nothing. */

import { mkdir } from 'node:fs/promises'
import {
  mirrorRequestSchema,
  type MirroredEvent,
  type NoticeEvent,
  type ProgressEvent,
} from '../../src/api/contract.ts'
import { type Clock, systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { openHashPool } from '../../src/ingest/hash-file.ts'
import { openBandwidth } from '../../src/net/upload/bandwidth.ts'
import type { MirrorDeps } from '../../src/ops/mirror/hub-door.ts'
import { openMirrors } from '../../src/ops/mirror/mirror.ts'
import type { Store } from '../../src/store/store.ts'
import { openScratchFolder } from './scratch-folder.ts'
import { openTestStore } from './store-fixture.ts'

export interface MirrorFixture extends AsyncDisposable {
  readonly store: Store
  readonly deps: MirrorDeps
  /** Told to the user. */
  readonly notices: string[]
  /** How far the last mirror said that it was. */
  readonly progress: ProgressEvent[]
  /** How long was waited, in order. */
  readonly waitsMs: number[]
  file(name: string): string
  mirror(request: object, signal?: AbortSignal): Promise<MirroredEvent>
}

/** Waits end at once and are noted. */
export function hurriedClock(waitsMs: number[]): Clock {
  let ahead = 0
  return {
    now: () => systemClock.now() + ahead,
    monotonic: () => systemClock.monotonic() + ahead,
    async sleep(ms, signal) {
      signal?.throwIfAborted()
      waitsMs.push(ms)
      ahead += ms
      await systemClock.sleep(0, signal)
    },
  }
}

export async function openMirrorFixture(
  options: { readonly finder?: MirrorDeps['finder'] } = {},
): Promise<MirrorFixture> {
  await using stack = new AsyncDisposableStack()
  const scratch = stack.use(await openScratchFolder())
  const store = stack.use(await openTestStore(scratch.path))
  const pool = stack.use(openHashPool({ workers: 2 }))
  const waitsMs: number[] = []
  const clock = hurriedClock(waitsMs)
  const notices: string[] = []
  const progress: ProgressEvent[] = []
  const home = scratch.file('home')
  await mkdir(home)
  const deps: MirrorDeps = {
    programEnv: { PATH: process.env['PATH'] ?? '' },
    store,
    pool,
    clock,
    log: silentLog,
    finder: options.finder ?? nobody,
    home,
    modelsFolder: scratch.file('home/models'),
    net: {
      bandwidth: openBandwidth(clock),
      providedChanged: () => undefined,
      addresses: () => [],
      peers: () => [],
    },
    webSeeds: { allowPrivate: false, agent: 'commonweight/test' },
    random: Math.random,
  }
  const mirrors = openMirrors(deps)
  const opened = stack.move()
  return {
    store,
    deps,
    notices,
    progress,
    waitsMs,
    file: name => scratch.file(name),
    mirror: (request, signal = new AbortController().signal) =>
      mirrors.mirror(mirrorRequestSchema.parse({ kind: 'mirror', ...request }), {
        signal,
        onEvent: (event: NoticeEvent | ProgressEvent) => {
          if (event.type === 'notice') notices.push(event.message)
          else progress.push(event)
        },
      }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

/** A network of one. */
const nobody: MirrorDeps['finder'] = {
  async *find() {
    yield* []
    await Promise.resolve()
  },
}
