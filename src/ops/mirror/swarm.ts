/**
 * What of a commit the network has already: a file's SHA-256 is a name there, too. Where somebody knows the
 * chunks of a file it is fetched from peers and from the hub at once, chunk by chunk, each checked when it
 * comes; and of what this machine has of it only the rest.
 */

import { mapLimit } from '../../core/async.ts'
import { rawCid } from '../../core/cid.ts'
import {
  IntegrityError,
  LimitError,
  messageOf,
  NotFoundError,
  UnavailableError,
} from '../../core/errors.ts'
import { MiB, second } from '../../core/units.ts'
import type { HubFile } from '../../hub/answers.ts'
import { checkWebSeeds, openWebSeeds } from '../../net/web/web-seeds.ts'
import type { Allowance } from '../../transfer/allowance.ts'
import { download } from '../../transfer/download.ts'
import { fetchFileTable } from '../../transfer/fetch-table.ts'
import type { WantedFile } from '../../transfer/request.ts'
import type { MirrorDeps } from './hub-door.ts'
import type { MirrorProgress } from './progress.ts'
import type { OperationOptions } from '../operation.ts'

export interface SwarmWork {
  readonly files: readonly HubFile[]
  readonly folder: string
  readonly placeOf: (path: string) => string
  /** Where the hub serves the commit's files; undefined when it gives them to some only. */
  readonly hubUrl: string | undefined
  readonly allowance: Allowance
  /** Of this mirror alone. */
  readonly ownAllowance: Allowance | undefined
  readonly progress: MirrorProgress
  readonly options: OperationOptions
}

/** Smaller files are a request to the hub, and looking for them would take as long. */
const bytesMin = 4 * MiB
/** Who mirrors a commit has all of it: when nobody has the first file so soon, nobody is asked for others. */
const firstPatienceMs = 3 * second
const patienceMs = 10 * second
const asksAtOnce = 8
/** The hub is there when everybody else has gone. */
const stallMs = 30 * second

/**
 * Puts files at their places. What it cannot get is left to the hub alone: nothing is missing then but the
 * time that was spent.
 */
export async function obtainFromSwarm(deps: MirrorDeps, work: SwarmWork): Promise<void> {
  if (deps.net.peers().length === 0) return
  const wanted = await findTables(deps, work)
  if (wanted.length === 0) return
  const { folder, progress, options } = work
  const { signal, onEvent } = options
  const onNotice = (level: 'info' | 'warn', message: string): void =>
    onEvent({ type: 'notice', level, message })
  using seeds = openWebSeeds(
    { ...deps, onNotice },
    { named: [], hinted: seedsOf(deps, work, wanted), files: wanted },
    deps.webSeeds,
  )
  const keys = wanted.flatMap(({ sha256, root }) =>
    sha256 === undefined ? [root] : [rawCid(sha256), root],
  )
  try {
    const { sources } = await download(
      { ...deps, finder: seeds.finderOver(deps.finder) },
      { keys, folder, files: wanted, ownFolder: deps.modelsFolder },
      {
        signal,
        peers: [],
        allowance: work.allowance,
        ownAllowance: work.ownAllowance,
        patienceMs: stallMs,
        onProgress: ({ bytesDone, sources: count }) => progress.together(bytesDone, count),
        onNotice,
      },
    )
    const hubs = new Set(seeds.sources.map(({ id }) => id))
    const bytesOf = (isHub: boolean): number =>
      sources.reduce((sum, { id, bytes }) => (hubs.has(id) === isHub ? sum + bytes : sum), 0)
    progress.togetherDone(bytesOf(false), bytesOf(true))
  } catch (error) {
    progress.togetherDone(0, 0)
    if (!isNothingThere(error)) throw error
    deps.log.info('the hub alone, then', { error: messageOf(error) })
  }
}

/** The files whose chunks somebody knows. That they are those of the SHA-256 is seen at the end. */
async function findTables(deps: MirrorDeps, work: SwarmWork): Promise<WantedFile[]> {
  const large = work.files
    .filter(({ sha256, size }) => sha256 !== undefined && size >= bytesMin)
    .toSorted((a, b) => b.size - a.size)
  const [first, ...others] = large
  if (first === undefined) return []
  const found = await findTable(deps, work, first, firstPatienceMs)
  if (found === undefined) return []
  const wanted = [found]
  const ask = (file: HubFile): Promise<WantedFile | undefined> =>
    findTable(deps, work, file, patienceMs)
  for await (const one of mapLimit(others, asksAtOnce, ask, work.options.signal)) {
    if (one !== undefined) wanted.push(one)
  }
  return wanted
}

async function findTable(
  deps: MirrorDeps,
  { options, placeOf }: SwarmWork,
  { path, size, sha256: hex = '' }: HubFile,
  withinMs: number,
): Promise<WantedFile | undefined> {
  const sha256 = Buffer.from(hex, 'hex')
  try {
    const table = await fetchFileTable(deps, rawCid(sha256), {
      signal: options.signal,
      peers: [],
      patienceMs: withinMs,
      onNotice: () => undefined,
    })
    // A table that is not of this size is of another file.
    if (table.table.size !== size) return undefined
    return { path, size, sha256, root: table.root, place: placeOf(path), table }
  } catch (error) {
    options.signal.throwIfAborted()
    if (isNothingThere(error)) return undefined
    throw error
  }
}

function isNothingThere(error: unknown): boolean {
  return (
    error instanceof NotFoundError ||
    error instanceof UnavailableError ||
    error instanceof IntegrityError ||
    error instanceof LimitError
  )
}

/** The hub, where the rules for web seeds allow it. */
function seedsOf(deps: MirrorDeps, { hubUrl }: SwarmWork, files: readonly WantedFile[]): string[] {
  if (hubUrl === undefined) return []
  try {
    checkWebSeeds([hubUrl], deps.webSeeds, files)
    return [hubUrl]
  } catch {
    // One of this machine's network, which was typed for the mirror and not for its peers.
    return []
  }
}
