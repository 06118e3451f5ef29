/**
 * A download from start to end: what is here already is reused, space is checked, the swarm gives the
 * rest. Everything a peer sends passes dag/verify.ts before it exists for anyone.
 */

import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import type { Logger } from '../core/log.ts'
import { second } from '../core/units.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { statLink } from '../store/files.ts'
import type { Store } from '../store/store.ts'
import type { Allowance } from './allowance.ts'
import type { FetchedTable } from './fetch-table.ts'
import { reuseWhole } from './reuse.ts'
import type { SourceFinder, SourceId } from './source.ts'
import { SwarmRun } from './swarm-run.ts'
import { Tally } from './tally.ts'

export interface DownloadDeps {
  readonly store: Pick<
    Store,
    | 'addFiles'
    | 'checkSpace'
    | 'chunkTable'
    | 'fileAt'
    | 'findChunk'
    | 'findFile'
    | 'held'
    | 'manifestBlock'
    | 'openPartial'
    | 'tidy'
  >
  readonly finder: SourceFinder
  readonly clock: Clock
  readonly log: Logger
  /** 0 <= n < 1; breaks ties of the picker. */
  random(): number
}

/** A file that is wanted, and where it goes. */
export interface WantedFile {
  readonly path: string
  readonly size: number
  /** Undefined when only the root is known. */
  readonly sha256: Uint8Array | undefined
  readonly root: CID
  /** Absolute. */
  readonly place: string
  /** When it was fetched before: by a file's SHA-256, there is no other way to the root. */
  readonly table?: FetchedTable
}

export interface DownloadRequest {
  /** What sources are found by: manifest, file roots, SHA-256s; the most telling first. */
  readonly keys: readonly CID[]
  /** Absolute; every file lies below it. */
  readonly folder: string
  readonly files: readonly WantedFile[]
  /** Our own models folder: between files below it hard links are made, never to a user's file. */
  readonly ownFolder?: string
}

export interface DownloadProgress {
  /** finding: looking for sources. waiting: nobody known serves what is missing now. */
  readonly phase: 'finding' | 'reusing' | 'fetching' | 'waiting' | 'publishing'
  readonly filesDone: number
  readonly filesTotal: number
  readonly bytesDone: number
  readonly bytesTotal: number
  /** Sources that gave bytes in the last seconds. */
  readonly sources: number
}

export interface DownloadOptions {
  readonly signal: AbortSignal
  /** Multiaddrs from the link or --peer. */
  readonly peers: readonly string[]
  /** The limit on the speed of downloads. None when left out. */
  readonly allowance?: Allowance | undefined
  /** sequential: among equally rare chunks the first ones of the first files. rarest when left out. */
  readonly order?: 'rarest' | 'sequential' | undefined
  /** Give up with NotFoundError or UnavailableError when nobody served a byte for so long. */
  readonly patienceMs: number
  /** A few times a second at most. */
  readonly onProgress: (progress: DownloadProgress) => void
  /** Worth a line on the terminal: a source banned, nobody left to serve. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
}

export interface DownloadResult {
  readonly bytesFetched: number
  readonly bytesReused: number
  readonly sources: readonly { readonly id: SourceId; readonly bytes: number }[]
}

export interface FetchedManifest {
  readonly manifest: Manifest
  /** The canonical bytes, verified against the CID. */
  readonly block: Uint8Array
}

/** Progress is told no more often than this. */
const progressMs = second / 4

/**
 * Every wanted file at its place, checked and indexed. UnavailableError when nobody served what is
 * missing for as long as the options say; what was fetched is kept for the next time.
 */
export async function download(
  deps: DownloadDeps,
  request: DownloadRequest,
  options: DownloadOptions,
): Promise<DownloadResult> {
  const tally = new Tally(request.files)
  const left = await reuseFiles(deps, request, { options, tally, files: request.files })
  if (left.length > 0) {
    // One file may be wanted at several places: it is fetched to the first and copied from there.
    const { firsts, twins } = splitTwins(left)
    await deps.store.checkSpace(request.folder, await bytesMissing(deps, left))
    await fetchFiles(deps, request, { options, tally, files: firsts })
    const rest = await reuseFiles(deps, request, { options, tally, files: twins })
    await fetchFiles(deps, request, { options, tally, files: rest })
  }
  await deps.store.tidy(request.folder)
  options.onProgress(tally.progress('publishing', 0))
  return tally.result()
}

interface Work {
  readonly options: DownloadOptions
  readonly tally: Tally
  readonly files: readonly WantedFile[]
}

async function fetchFiles(
  deps: DownloadDeps,
  request: DownloadRequest,
  { options, tally, files }: Work,
): Promise<void> {
  if (files.length === 0) return
  await new SwarmRun(deps, { ...request, files }, { ...options, tally }).finish()
}

function splitTwins(files: readonly WantedFile[]): { firsts: WantedFile[]; twins: WantedFile[] } {
  const firsts = new Map<string, WantedFile>()
  const twins: WantedFile[] = []
  for (const file of files) {
    const root = file.root.toString()
    if (firsts.has(root)) twins.push(file)
    else firsts.set(root, file)
  }
  return { firsts: [...firsts.values()], twins }
}

/** Returns the files that are not at their place afterwards. */
async function reuseFiles(
  deps: DownloadDeps,
  request: DownloadRequest,
  { options, tally, files }: Work,
): Promise<WantedFile[]> {
  const { signal, onProgress } = options
  const left: WantedFile[] = []
  let toldAtMs = -Infinity
  for (const file of files) {
    signal.throwIfAborted()
    if (await reuseWhole(deps, request, file, signal)) {
      tally.reused(file.size)
      tally.fileDone()
    } else {
      left.push(file)
    }
    if (deps.clock.monotonic() - toldAtMs < progressMs) continue
    toldAtMs = deps.clock.monotonic()
    onProgress(tally.progress('reusing', 0))
  }
  return left
}

/** What partial files hold already takes no more space; a damaged file is there until it is replaced. */
async function bytesMissing(
  { store }: DownloadDeps,
  files: readonly WantedFile[],
): Promise<number> {
  let bytes = 0
  for (const { root, size, place } of files) {
    const held = store.held(root)
    const isPartial = held !== undefined && held.length > 0 && !held.isFull
    const isRepair = isPartial && (await statLink(place)) !== undefined
    // Chunks are nearly of one size; the reserve covers the difference.
    bytes += isPartial && !isRepair ? Math.ceil(size * (1 - held.count / held.length)) : size
  }
  return bytes
}
