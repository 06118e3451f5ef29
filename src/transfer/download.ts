/**
 * A download from start to end: what is here already is reused, space is checked, the swarm gives the
 * rest. Everything a peer sends passes dag/verify.ts before it exists for anyone.
 */

import { second } from '../core/units.ts'
import { statLink } from '../store/files.ts'
import type {
  DownloadDeps,
  DownloadOptions,
  DownloadRequest,
  DownloadResult,
  WantedFile,
} from './request.ts'
import { reuseWhole } from './reuse.ts'
import { SwarmRun } from './swarm-run.ts'
import { Tally } from './tally.ts'

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
  // Asked for when the first file is to be copied: most downloads copy none.
  let bytesAbsent: number | undefined
  for (const [at, file] of files.entries()) {
    signal.throwIfAborted()
    const bytesToCome = async (): Promise<number> =>
      (bytesAbsent ??= await absentBytes(files.slice(at)))
    const isHere = await reuseWhole(deps, request, file, { signal, bytesToCome })
    if (bytesAbsent !== undefined) bytesAbsent = Math.max(0, bytesAbsent - file.size)
    if (isHere) {
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

async function absentBytes(files: readonly WantedFile[]): Promise<number> {
  let bytes = 0
  for (const { place, size } of files) if ((await statLink(place)) === undefined) bytes += size
  return bytes
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
