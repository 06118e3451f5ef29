/** The files of a commit, each from where it costs least: this machine, the network, the hub. */

import type { MirrorRequest } from '../../api/contract.ts'
import { mapLimit } from '../../core/async.ts'
import { toHex } from '../../core/bytes.ts'
import { RateLimit } from '../../core/rate-limit.ts'
import { KiB } from '../../core/units.ts'
import type { HubFile } from '../../hub/answers.ts'
import type { Hub } from '../../hub/hub.ts'
import { statLink } from '../../store/files.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { Origin } from '../../store/store.ts'
import { localFile, type MirrorFileDeps, type MirrorJob, obtainFile } from './file.ts'
import { guessedBytesMin, type LocalTensors, localTensorsOf, openGuess } from './guess.ts'
import { type Obtained } from './keep.ts'
import { type MirrorProgress } from './progress.ts'
import { obtainFromSwarm } from './swarm.ts'
import type { OperationOptions } from '../operation.ts'
import type { MirrorDeps } from './hub-door.ts'
import { manifestFiles, type Run } from './plan.ts'

/** Files on their way, whose requests share the connections to one host; and requests for one of them. */
const filesAtOnce = 8
const requestsAtOnce = 6
/** A connection of a limited mirror has this much, or it would be silent for so long that it is closed. */
const leastBytesPerSecond = 256 * KiB

interface Work {
  readonly options: OperationOptions
  readonly request: MirrorRequest
  readonly progress: MirrorProgress
}

/** What is here, then what the network knows, and the rest from the hub alone. */
export async function obtainAll(
  deps: MirrorDeps,
  hub: Hub,
  run: Run,
  { options, request, progress }: Work,
): Promise<Obtained[]> {
  const { store, clock, pool } = deps
  const { down } = deps.net.bandwidth
  const own = request.maxDown === undefined ? undefined : new RateLimit(clock, request.maxDown)
  await store.checkSpace(run.folder, await missingBytes(run))
  const lanes = lanesAt(Math.min(own?.bytesPerSecond ?? Infinity, down.bytesPerSecond ?? Infinity))
  const fileDeps: MirrorFileDeps = {
    ...deps,
    hub,
    requestsAtOnce: lanes.requests,
    async take(bytes, taking) {
      await own?.take(bytes, taking)
      await down.take(bytes, taking)
    },
  }
  pool.warm()
  const jobOf = jobsOf(deps, run, progress)
  const obtained: Obtained[] = []
  const left: HubFile[] = []
  const all = async (
    files: readonly HubFile[],
    obtain: (job: MirrorJob) => Promise<NewFile | undefined>,
  ): Promise<void> => {
    const work = async (from: HubFile, signal: AbortSignal): Promise<void> => {
      const file = await obtain(jobOf(from, signal))
      if (file === undefined) left.push(from)
      else obtained.push({ from, file })
      if (file !== undefined) progress.done(from)
    }
    for await (const _ of mapLimit(files, lanes.files, work, options.signal)) continue
  }
  await all(run.files, job => localFile(fileDeps, job))
  await obtainFromSwarm(deps, {
    files: left,
    folder: run.folder,
    placeOf: run.placeOf,
    hubUrl: run.info.gated === false ? hub.treeUrl(run.info, run.info.commit) : undefined,
    allowance: down,
    ownAllowance: own,
    progress,
    options,
  })
  await all(left.splice(0), job => obtainFile(fileDeps, job))
  return obtained
}

/** Few connections on a thin line. */
function lanesAt(bytesPerSecond: number): { readonly files: number; readonly requests: number } {
  const connections = Math.max(1, Math.floor(bytesPerSecond / leastBytesPerSecond))
  const requests = Math.min(requestsAtOnce, connections)
  return { requests, files: Math.max(1, Math.min(filesAtOnce, Math.floor(connections / requests))) }
}

function jobsOf(
  deps: MirrorDeps,
  run: Run,
  progress: MirrorProgress,
): (file: HubFile, signal: AbortSignal) => MirrorJob {
  const knownBySha1 = sha256ByOid(deps, run.before)
  const locals = lazily(() => localTensorsOf(weightPlaces(deps, run)))
  return (file, signal) => ({
    from: { ...run.info, commit: run.info.commit, file },
    sha256: knownBySha1.get(file.gitOid),
    folder: run.folder,
    place: run.placeOf(file.path),
    ownFolder: deps.modelsFolder,
    guess: async (read, partial) =>
      file.size < guessedBytesMin
        ? undefined
        : openGuess({ locals: await locals(), read, signal }, partial),
    onBytes: bytes => progress.fetched(file, bytes),
    signal,
  })
}

/** Of files that nobody has the bytes of yet; what partial files hold is counted, and is little wrong. */
async function missingBytes(run: Run): Promise<number> {
  let bytes = 0
  for (const { path, size } of run.files) {
    if ((await statLink(run.placeOf(path))) === undefined) bytes += size
  }
  return bytes
}

/** What git's names of small files mean, from the commits that were mirrored before. */
function sha256ByOid(deps: MirrorDeps, before: readonly Origin[]): Map<string, string> {
  const known = new Map<string, string>()
  for (const origin of before.slice(0, 2)) {
    for (const { gitOid, lfs, sha256 } of manifestFiles(deps, origin)) {
      if (gitOid !== undefined && lfs === false) known.set(gitOid, toHex(sha256))
    }
  }
  return known
}

/** Files of weights of the revision that was mirrored last. */
function weightPlaces({ store }: MirrorDeps, { before, info }: Run): string[] {
  const last = before.find(({ revision }) => revision !== info.commit)
  if (last === undefined) return []
  return store
    .filesOf(last.manifest)
    .filter(({ path, state }) => state === 'held' && /\.(?:safetensors|gguf)$/u.test(path))
    .map(({ place }) => place)
}

function lazily(make: () => Promise<LocalTensors>): () => Promise<LocalTensors> {
  let made: Promise<LocalTensors> | undefined
  return () => (made ??= make())
}
