/**
 * The web seeds of one download: sources over HTTP for plain trees of files, added to whatever else is
 * found. docs/spec/web-seeds.md.
 */

import type { Clock } from '../../core/clock.ts'
import { InvalidInputError, ProtocolError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { second } from '../../core/units.ts'
import { withDeadline } from '../../transfer/ask-sources.ts'
import type { Source, SourceFinder } from '../../transfer/source.ts'
import { type Lookup, systemLookup, type Zone, zoneOfHost } from './address-guard.ts'
import { WebClient, type WebClientOptions } from './client.ts'
import { faultOfZone, parseWebSeed, urlOfFile, type WebSeedUrl } from './seed-url.ts'
import { type SeededFile, WebSource } from './source.ts'

export type { WebClientOptions as WebSeedOptions } from './client.ts'

/** For the look-up of a host before a pull begins; one that takes longer is judged when it is asked. */
const hostLookupMs = 5 * second

export interface WebSeedDeps {
  readonly clock: Clock
  readonly log: Logger
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
  /** The system's resolver when left out. */
  readonly lookup?: Lookup
}

export interface WebSeedList {
  /** What the user typed: one that cannot be used is an error. */
  readonly named: readonly string[]
  /** What a link says: one that cannot be used is told and left out. */
  readonly hinted: readonly string[]
  /** All files of the model. */
  readonly files: readonly Omit<SeededFile, 'url'>[]
}

export interface WebSeeds extends Disposable {
  readonly sources: readonly Source[]
  /** Yields the web seeds first. */
  finderOver(finder: SourceFinder): SourceFinder
}

/** Throws InvalidInputError for a URL that no download, of these files when they are known, can use. */
export function checkWebSeeds(
  urls: readonly string[],
  options: WebClientOptions,
  files?: readonly unknown[],
): void {
  for (const text of urls) {
    const seed = parseWebSeed(text, options)
    if (files !== undefined) checkFits(seed, files)
  }
}

/**
 * The same for the hosts of these URLs, looked up. A name that nobody knows now is no fault: it is tried again
 * when it is asked, and judged then.
 */
export async function checkWebSeedHosts(
  { clock, lookup = systemLookup }: Pick<WebSeedDeps, 'clock' | 'lookup'>,
  urls: readonly string[],
  options: WebClientOptions,
  signal: AbortSignal,
): Promise<void> {
  const checkOne = async (text: string): Promise<void> => {
    const { id, url } = parseWebSeed(text, options)
    let zone: Zone
    try {
      zone = await withDeadline(clock, hostLookupMs, signal, () => zoneOfHost(url, lookup))
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof ProtocolError)) return
      throw new InvalidInputError(`the web seed ${id}: ${error.message}`, { cause: error })
    }
    const found = faultOfZone(url, zone, options.allowPrivate)
    if (found === undefined) return
    const { fault, ...details } = found
    throw new InvalidInputError(`the web seed ${id} ${fault}`, details)
  }
  await Promise.all(urls.map(checkOne))
}

/** A file named by its hash alone has no path: it can be had from a URL of its own, not from below one. */
export function openWebSeeds(
  deps: WebSeedDeps,
  list: WebSeedList,
  options: WebClientOptions,
): WebSeeds {
  const urls = new Map<string, WebSeedUrl>()
  const add = (text: string): void => {
    const seed = parseWebSeed(text, options)
    checkFits(seed, list.files)
    if (!urls.has(seed.id)) urls.set(seed.id, seed)
  }
  for (const text of list.named) add(text)
  for (const text of list.hinted) {
    try {
      add(text)
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error
      deps.onNotice('warn', `${error.message}: left out`)
    }
  }
  const clients: WebClient[] = []
  const sources = [...urls.values()].map(seed => {
    const client = new WebClient(
      { lookup: deps.lookup ?? systemLookup, clock: deps.clock },
      options,
    )
    clients.push(client)
    const files = list.files.map(file => ({ ...file, url: urlOfFile(seed, file.path) }))
    return new WebSource({ ...deps, client }, seed.id, files)
  })
  return {
    sources,
    finderOver: finder => ({
      async *find(keys, findOptions) {
        for (const source of sources) {
          if (!source.closed.aborted) yield { type: 'source', source }
        }
        yield* finder.find(keys, findOptions)
      },
    }),
    [Symbol.dispose]() {
      for (const source of sources) source.close(new Error('the download is over'))
      for (const client of clients) client[Symbol.dispose]()
    },
  }
}

function checkFits({ id, kind }: WebSeedUrl, files: readonly unknown[]): void {
  if (kind === 'tree' || files.length === 1) return
  throw new InvalidInputError(`the web seed ${id} is one file, and the model has ${files.length}`, {
    hint: 'the URL of a folder ends with /',
  })
}
