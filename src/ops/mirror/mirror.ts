/**
 * Mirror: a commit of a hub's repository becomes a model that is kept and served. What is here already is
 * not fetched; what is fetched is checked against the hub's own list before it has a name. The manifest says
 * which commit it is, so that two who mirror it make the same. docs/spec/mirroring.md.
 */

import { join } from 'node:path'
import type { MirroredEvent, MirrorRequest } from '../../api/contract.ts'
import { mapLimit } from '../../core/async.ts'
import { toHex } from '../../core/bytes.ts'
import { ConflictError, InvalidInputError } from '../../core/errors.ts'
import { RateLimit } from '../../core/rate-limit.ts'
import { KiB, second } from '../../core/units.ts'
import { type Hub, type HubDeps, type HubFile, type HubInfo, openHub } from '../../hub/hub.ts'
import {
  formatHubRef,
  hubName,
  type HubRepo,
  hubUrl,
  parseHubRef,
  repoPath,
} from '../../hub/ref.ts'
import type { HashPool } from '../../ingest/hash-file.ts'
import { decodeManifest, type ManifestFile } from '../../manifest/manifest.ts'
import { collisionKey, parsePath } from '../../manifest/paths.ts'
import type { Net } from '../../net/net.ts'
import { statLink } from '../../store/files.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { HeldModel, Origin } from '../../store/store.ts'
import { bothAllow } from '../../transfer/allowance.ts'
import { realpathOf, refuseHome } from '../home-guard.ts'
import { factsOf } from './hub-facts.ts'
import { changesBetween } from './changes.ts'
import { localFile, type MirrorFileDeps, type MirrorJob, obtainFile } from './file.ts'
import { guessedBytesMin, type LocalTensors, localTensorsOf, openGuess } from './guess.ts'
import { keepCommit, keepOrigin, type Obtained } from './keep.ts'
import { type MirrorProgress, openProgress } from './progress.ts'
import { obtainFromSwarm } from './swarm.ts'
import type { OperationOptions } from '../operation.ts'
import type { PullDeps } from '../pull/pull.ts'
import { selectPaths } from '../select.ts'

export interface MirrorDeps extends PullDeps {
  readonly pool: HashPool
  readonly net: PullDeps['net'] & Pick<Net, 'addresses' | 'peers'>
}

/** Files on their way, whose requests share the connections to one host; and requests for one of them. */
const filesAtOnce = 8
const requestsAtOnce = 6
/** A connection of a limited mirror has this much, or it would be silent for so long that it is closed. */
const leastBytesPerSecond = 256 * KiB
/** Digits of a commit in the name of its folder. */
const commitCharacters = 12

/** The revision before stays what it was, and takes its place on the disk. */
function noticeOld({ store }: MirrorDeps, { before, changes }: Run, options: MirrorOptions): void {
  const old = before.find(({ revision }) => revision === changes?.since)?.manifest
  if (old === undefined || store.model(old) === undefined) return
  const message = `the commit before is kept, too: commonweight rm ${old.toString()} --files deletes it`
  options.onEvent({ type: 'notice', level: 'info', message })
}

export interface Mirrors {
  mirror(request: MirrorRequest, options: OperationOptions): Promise<MirroredEvent>
}

export function openMirrors(deps: MirrorDeps): Mirrors {
  /** Folders that are written to, wherever links lead: one mirror each. */
  const busy = new Set<string>()
  return { mirror: (request, options) => mirror(deps, request, { ...options, busy }) }
}

interface MirrorOptions extends OperationOptions {
  readonly busy: Set<string>
}

async function mirror(
  deps: MirrorDeps,
  request: MirrorRequest,
  options: MirrorOptions,
): Promise<MirroredEvent> {
  const startedMs = deps.clock.monotonic()
  if (request.to !== undefined) await refuseHome(deps, request.to)
  const ref = parseHubRef(request.ref)
  using hub = openHub(hubDeps(deps, options), {
    upstream: request.upstream ?? hubUrl,
    allowPrivate: deps.webSeeds.allowPrivate,
    token: request.token,
    agent: deps.webSeeds.agent,
  })
  const progress = openProgress(deps.clock, options)
  progress.listing()
  const info = await hub.info(ref, options.signal)
  refuseClosed(info, request)
  noticeRenamed(ref, info, options)
  const all = await hub.files(info, info.commit, options.signal)
  const refs = await hub.refs(info, options.signal)
  const known = await heldCommit(deps, info)
  const run = planRun(deps, request, { info, all, known })
  const facts = factsOf(info, refs, run.files)
  using _ = claim(options.busy, await realpathOf(run.folder))
  progress.start(run.files)
  if (run.isHere) for (const file of run.files) progress.done(file)
  const obtained = run.isHere ? [] : await obtainAll(deps, hub, run, { options, request, progress })
  const upstream = request.upstream ?? hubUrl
  const held =
    run.stays === undefined
      ? keepCommit(deps, {
          ...run,
          obtained,
          facts,
          upstream,
          pinned: request.seed,
          seeding: request.seed,
          isNamed: true,
          onNotice: hubDeps(deps, options).onNotice,
        })
      : keepOrigin(deps, run.stays, { info, facts, upstream, isWhole: true })
  await deps.store.tidy(run.folder)
  noticeOld(deps, run, options)
  deps.log.info('mirrored', { ref: run.ref, commit: info.commit, manifest: held.manifest })
  return {
    type: 'mirrored',
    ...held,
    ref: run.ref,
    commit: info.commit,
    path: run.folder,
    whole: run.isWhole,
    files: run.files.length,
    bytes: run.bytes,
    ...progress.bytes(),
    seconds: (deps.clock.monotonic() - startedMs) / second,
    licence: facts.licence,
    gated: facts.gated,
    changes: run.changes,
  }
}

function claim(busy: Set<string>, folder: string): Disposable {
  if (busy.has(folder)) {
    throw new ConflictError(`${folder} is being mirrored to already`, {
      hint: 'wait for the other mirror, or use another folder with --to',
    })
  }
  busy.add(folder)
  return { [Symbol.dispose]: () => void busy.delete(folder) }
}

export function hubDeps({ clock, log }: MirrorDeps, { onEvent }: OperationOptions): HubDeps {
  return {
    clock,
    log,
    onNotice: (level, message) => onEvent({ type: 'notice', level, message }),
  }
}

/** Names are what is asked for later. */
export function noticeRenamed(asked: HubRepo, { repo }: HubInfo, options: OperationOptions): void {
  if (asked.repo === repo) return
  const message = `the hub calls ${asked.repo} ${repo}: that is the name from here on`
  options.onEvent({ type: 'notice', level: 'info', message })
}

/** What somebody keeps from others is not given to a network that forgets nothing. */
export function refuseClosed(
  info: HubInfo,
  { allowGated }: Pick<MirrorRequest, 'allowGated'>,
): void {
  const { repo, licence = 'not stated' } = info
  if (info.isPrivate) {
    throw new InvalidInputError(`${repo} is private: it is not mirrored`, {
      hint: 'commonweight seed shares files that are yours to share',
    })
  }
  if (info.isDisabled) {
    throw new InvalidInputError(`${repo} is disabled on the hub: it is not mirrored`, {
      hint: 'ask its owners or the hub why',
    })
  }
  if (info.gated !== false && !allowGated) {
    throw new InvalidInputError(`${repo} is gated: who wants it accepts terms on the hub first`, {
      hint: `read its terms (licence: ${licence}); --allow-gated mirrors it if they let you share it`,
    })
  }
}

interface Run {
  /** Of the branch or tag that was asked for, as the hub spells it. */
  readonly ref: string
  readonly info: HubInfo
  readonly files: readonly HubFile[]
  readonly bytes: number
  readonly isWhole: boolean
  readonly folder: string
  /** Absolute place of a file. */
  readonly placeOf: (path: string) => string
  /** What was mirrored of this repository before, newest first. */
  readonly before: readonly Origin[]
  readonly changes: MirroredEvent['changes']
  /** The commit is kept elsewhere and stays there: only its files are wanted here, too. */
  readonly stays: HeldModel | undefined
  /** And it is where it is wanted. */
  readonly isHere: boolean
}

interface Found {
  readonly info: HubInfo
  readonly all: readonly HubFile[]
  readonly known: HeldModel | undefined
}

/** The whole commit, however it came here. */
async function heldCommit({ store }: MirrorDeps, info: HubInfo): Promise<HeldModel | undefined> {
  for (const { manifest } of store.models()) {
    const block = store.manifestBlock(manifest)
    const source = block === undefined ? undefined : decodeManifest(block).source
    const isSame =
      source?.commit === info.commit && source.repo === info.repo && source.type === info.type
    if (!isSame || source.hub !== hubName) continue
    await store.refresh(manifest)
    return store.model(manifest)
  }
  return undefined
}

/** Where the files are that the model has in this folder. */
function placesIn(
  { store }: MirrorDeps,
  known: HeldModel | undefined,
  folder: string,
): ReadonlyMap<string, string> {
  if (known?.folder !== folder) return new Map()
  return new Map(store.filesOf(known.manifest).map(({ path, place }) => [path, place]))
}

function planRun(deps: MirrorDeps, request: MirrorRequest, { info, all, known }: Found): Run {
  const { store } = deps
  const files = selectPaths(all, request)
  checkPaths(files)
  const before = store.originsOf({ hub: hubName, type: info.type, repo: info.repo })
  const isWhole = files.length === all.length
  const own = known?.origin === 'pulled' ? known.folder : commitFolder(deps, info)
  const folder = request.to ?? own
  const isKept = isWhole && known?.state === 'complete'
  // A folder that its user shares is as good; the cache of a program may be emptied by it.
  const isHere = isKept && request.to === undefined && known.origin === 'seeded' && known.pinned
  const isElsewhere = isKept && known.origin === 'pulled' && known.folder !== folder
  const places = placesIn(deps, known, folder)
  const last = before.find(({ revision }) => revision !== info.commit)
  return {
    ref: formatHubRef({
      type: info.type,
      repo: info.repo,
      revision: parseHubRef(request.ref).revision,
    }),
    info,
    files,
    bytes: files.reduce((sum, { size }) => sum + size, 0),
    isWhole,
    folder: isHere ? known.folder : folder,
    stays: isHere || isElsewhere ? known : undefined,
    isHere,
    placeOf: path => places.get(path) ?? join(folder, ...path.split('/')),
    before,
    changes:
      last === undefined || known !== undefined
        ? null
        : changesBetween(last.revision, manifestFiles(deps, last), files),
  }
}

/** What no manifest could list is refused before anything is fetched. */
export function checkPaths(files: readonly HubFile[]): void {
  const seen = new Map<string, string>()
  for (const { path } of files) {
    const key = collisionKey(parsePath(path))
    const other = seen.get(key)
    if (other !== undefined) {
      throw new InvalidInputError(`${other} and ${path} are one file on some systems`, {
        hint: 'leave one of them out with --exclude: the copy is partial then',
      })
    }
    seen.set(key, path)
  }
}

/** Each commit has one: what is of an old revision stays what it is. */
export function commitFolder(
  { modelsFolder }: Pick<MirrorDeps, 'modelsFolder'>,
  info: HubInfo,
): string {
  const commit = info.commit.slice(0, commitCharacters)
  return join(modelsFolder, ...`${repoPath(info)}@${commit}`.split('/'))
}

function manifestFiles({ store }: MirrorDeps, { manifest }: Origin): readonly ManifestFile[] {
  const block = store.manifestBlock(manifest)
  if (block === undefined) return []
  const wanted = new Set(store.filesOf(manifest).map(({ path }) => path))
  return decodeManifest(block).files.filter(({ path }) => wanted.has(path))
}

interface Work {
  readonly options: OperationOptions
  readonly request: MirrorRequest
  readonly progress: MirrorProgress
}

/** What is here, then what the network knows, and the rest from the hub alone. */
async function obtainAll(
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
    allowance: own === undefined ? down : bothAllow(own, down),
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
