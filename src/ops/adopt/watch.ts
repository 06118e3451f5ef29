/**
 * Adoption, once when it is asked for and again and again for caches that are watched: those are
 * remembered over restarts, and looked at so seldom that it takes a hundredth of one processor at most.
 */

import { z } from 'zod'
import type { AdoptionEvent, AdoptRequest } from '../../api/adoption.ts'
import { type CacheFolder, cacheKinds, type FoundEntry } from '../../caches/found.ts'
import { raceSignal } from '../../core/async.ts'
import { toHex } from '../../core/bytes.ts'
import { createSha256 } from '../../core/digest.ts'
import { CommonweightError, InvalidInputError, isAbort, messageOf } from '../../core/errors.ts'
import { second } from '../../core/units.ts'
import { asReadError } from '../../ingest/file-errors.ts'
import type { Store } from '../../store/store.ts'
import { adopt, type AdoptDeps, adoptFound, type AdoptOptions, cachesOf, scan } from './adopt.ts'
import type { Selection } from '../select.ts'

export interface Adoption {
  adopt(request: AdoptRequest, options: AdoptOptions): Promise<AdoptionEvent>
  /** Folders of the caches that are watched. */
  watched(): string[]
  /** Runs until the signal aborts; problems are logged, because nobody waits for this. */
  watch(signal: AbortSignal): Promise<void>
}

/** Between two looks at a cache that is as it was: a look at 200 models takes a tenth of a second. */
const intervalMs = 15 * second
/** The pause is so many times as long as the look. */
const pausesPerLook = 100
/** What changed is adopted once it stays so for this long: a download may be going on. */
const settleMs = 3 * second
/** Caches that are watched. */
const watchedMax = 100

const factKey = 'watched caches'
const watchedSchema = z
  .array(
    z.strictObject({
      kind: z.enum(cacheKinds),
      folder: z.string(),
      pin: z.boolean(),
      include: z.array(z.string()),
      exclude: z.array(z.string()),
    }),
  )
  .max(watchedMax)

interface WatchedCache extends CacheFolder, Selection {
  readonly pin: boolean
}

/** What the last looks at a cache showed, as digests. */
interface Looks {
  readonly last: string
  readonly adopted: string | undefined
}

interface Look {
  /** All is as it was adopted. */
  readonly areSettled: boolean
  /** Without what was adopted then. */
  readonly tookMs: number
}

export type AdoptionDeps = AdoptDeps & { readonly store: Pick<Store, 'fact' | 'setFact'> }

export function openAdoption(deps: AdoptionDeps): Adoption {
  return new Watch(deps)
}

class Watch implements Adoption {
  readonly #deps: AdoptionDeps
  /** By folder. */
  readonly #looks = new Map<string, Looks>()
  #changed = Promise.withResolvers<void>()
  /** The adoption that runs, or ran last: two would hash the same files. */
  #turn: Promise<void> = Promise.resolve()
  /** Files may be hashed right now. */
  #isAdopting = false

  constructor(deps: AdoptionDeps) {
    this.#deps = deps
  }

  async adopt(request: AdoptRequest, options: AdoptOptions): Promise<AdoptionEvent> {
    if (request.watch === false) {
      this.#unwatch(request, options)
      return { type: 'adoption', models: 0, files: 0, bytes: 0, skipped: 0 }
    }
    if (this.#isAdopting) {
      const message = 'another adoption is running: this one begins when that is done'
      options.onEvent({ type: 'notice', level: 'info', message })
    }
    const { signal } = options
    const adopted = await this.#inTurn(
      () => this.#adopting(() => adopt(this.#deps, request, options)),
      signal,
    )
    // Once it is known that all of them are there.
    if (request.watch === true && !request.dryRun) this.#watch(request, options)
    return adopted
  }

  watched(): string[] {
    return this.#watched().map(({ folder }) => folder)
  }

  async watch(signal: AbortSignal): Promise<void> {
    const { log } = this.#deps
    try {
      while (!signal.aborted) {
        this.#changed = Promise.withResolvers<void>()
        const watched = this.#watched()
        const { areSettled, tookMs } = await this.#lookAtAll(watched, signal)
        const pauseMs = areSettled ? Math.max(intervalMs, tookMs * pausesPerLook) : settleMs
        await this.#pause(watched.length === 0 ? undefined : pauseMs, signal)
      }
    } catch (error) {
      if (!isAbort(error)) log.error('watching the caches stopped', { error: messageOf(error) })
    }
  }

  async #lookAtAll(watched: readonly WatchedCache[], signal: AbortSignal): Promise<Look> {
    const all = { areSettled: true, tookMs: 0 }
    for (const cache of watched) {
      try {
        const look = await this.#inTurn(() => this.#look(cache, signal), signal)
        all.areSettled &&= look.areSettled
        all.tookMs += look.tookMs
      } catch (error) {
        signal.throwIfAborted()
        // A disk that is not mounted: nothing is forgotten, and it may come back.
        const { folder } = cache
        const { log } = this.#deps
        const known = asReadError(folder, error)
        if (known instanceof CommonweightError) {
          log.debug('a watched cache cannot be read', { folder, error: known.message })
        } else {
          // Once again after the pause: one look that fails is no reason to watch no longer.
          log.error('looking at a watched cache failed', { folder, error })
        }
      }
    }
    return all
  }

  async #look(cache: WatchedCache, signal: AbortSignal): Promise<Look> {
    const { clock, log } = this.#deps
    const startMs = clock.monotonic()
    const found = await scan(this.#deps, [cache], cache, signal)
    const tookMs = clock.monotonic() - startMs
    const now = digestOf(found.entries)
    const before = this.#looks.get(cache.folder)
    if (before?.adopted === now) return { areSettled: true, tookMs }
    if (before?.last !== now) {
      this.#looks.set(cache.folder, { last: now, adopted: before?.adopted })
      return { areSettled: false, tookMs }
    }
    const onEvent: AdoptOptions['onEvent'] = event => {
      if (event.type === 'notice') log.info(event.message, { cache: cache.folder })
    }
    const how = { dryRun: false, pin: cache.pin }
    await this.#adopting(() => adoptFound(this.#deps, found, how, { signal, onEvent }))
    this.#looks.set(cache.folder, { last: now, adopted: now })
    return { areSettled: true, tookMs }
  }

  #watch(request: AdoptRequest, { onEvent }: AdoptOptions): void {
    const { pin, include, exclude } = request
    const caches = cachesOf(request).map(cache => ({ ...cache, pin, include, exclude }))
    const folders = new Set(caches.map(({ folder }) => folder))
    const others = this.#watched().filter(({ folder }) => !folders.has(folder))
    this.#remember([...others, ...caches])
    const message = `from now on the daemon looks at ${[...folders].join(', ')} by itself`
    onEvent({ type: 'notice', level: 'info', message })
  }

  #unwatch(request: AdoptRequest, { onEvent }: AdoptOptions): void {
    const folders = new Set(cachesOf(request).map(({ folder }) => folder))
    this.#remember(this.#watched().filter(({ folder }) => !folders.has(folder)))
    for (const folder of folders) this.#looks.delete(folder)
    const message = `${[...folders].join(', ')}: no longer watched; what was adopted stays`
    onEvent({ type: 'notice', level: 'info', message })
  }

  #watched(): readonly WatchedCache[] {
    const text = this.#deps.store.fact(factKey)
    if (text === undefined) return []
    const parsed = watchedSchema.safeParse(JSON.parse(text))
    return parsed.success ? parsed.data : []
  }

  #remember(watched: readonly WatchedCache[]): void {
    if (watched.length > watchedMax) {
      throw new InvalidInputError(`more than ${watchedMax} caches are watched`, {
        hint: 'commonweight adopt --no-watch with the folders of some lets go of them',
      })
    }
    const { store } = this.#deps
    store.setFact(factKey, watched.length === 0 ? undefined : JSON.stringify(watched))
    this.#changed.resolve()
  }

  async #adopting<T>(work: () => Promise<T>): Promise<T> {
    this.#isAdopting = true
    try {
      return await work()
    } finally {
      this.#isAdopting = false
    }
  }

  async #inTurn<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.#turn
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#turn = promise
    try {
      await raceSignal(before, signal)
      return await work()
    } finally {
      // Who gives up waiting hands on the turn that was waited for.
      void before.then(resolve)
    }
  }

  /** Until the time is over or other caches are watched. */
  async #pause(ms: number | undefined, signal: AbortSignal): Promise<void> {
    const wake = new AbortController()
    const sleep = this.#deps.clock.sleep(ms ?? foreverMs, AbortSignal.any([signal, wake.signal]))
    try {
      await Promise.race([sleep, this.#changed.promise])
      signal.throwIfAborted()
    } finally {
      wake.abort()
      await sleep.catch(() => undefined)
    }
  }
}

/** The longest that a timer takes. */
const foreverMs = 2 ** 31 - 1

/** Of what would make a difference. */
function digestOf(entries: readonly FoundEntry[]): string {
  const hasher = createSha256()
  for (const entry of entries) hasher.update(Buffer.from(`${JSON.stringify(factsOf(entry))}\n`))
  return toHex(hasher.digest())
}

function factsOf(entry: FoundEntry): unknown {
  const { kind, name, folder } = entry
  if (entry.kind === 'refused') return [kind, name, folder, entry.reason]
  const files = entry.files.map(({ path, place, stamp: { size, mtimeNs, ino } }) => {
    return [path, place, size, String(mtimeNs), String(ino)]
  })
  return [kind, name, folder, entry.whole?.commit, files]
}
