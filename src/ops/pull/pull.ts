/**
 * Pull: a REF becomes verified files on this disk, fetched from whoever has them, and a model that is
 * kept and served. What is found out on the way is remembered, so that kill -9 costs seconds.
 */

import { stat } from 'node:fs/promises'
import type { PulledEvent, PullRequest } from '../../api/contract.ts'
import { type CID, rawCid } from '../../core/cid.ts'
import {
  InvalidInputError,
  isAbort,
  NotFoundError,
  StorageError,
  UnavailableError,
} from '../../core/errors.ts'
import { stampOf } from '../../core/file-stamp.ts'
import type { Logger } from '../../core/log.ts'
import { RateLimit } from '../../core/rate-limit.ts'
import { minute, second } from '../../core/units.ts'
import { encodeManifest, makeManifest, manifestCid } from '../../manifest/manifest.ts'
import type { HashPool } from '../../ingest/hash-file.ts'
import type { Net } from '../../net/net.ts'
import {
  checkWebSeedHosts,
  checkWebSeeds,
  openWebSeeds,
  type WebSeedOptions,
  type WebSeeds,
} from '../../net/web/web-seeds.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { Store } from '../../store/store.ts'
import { download } from '../../transfer/download.ts'
import type {
  DownloadDeps,
  DownloadOptions,
  DownloadResult,
  WantedFile,
} from '../../transfer/request.ts'
import { fetchFileTable } from '../../transfer/fetch-table.ts'
import { fetchManifest } from '../../transfer/fetch-manifest.ts'
import { refuseHome } from '../home-guard.ts'
import { openMeter } from '../meter.ts'
import type { OperationOptions } from '../operation.ts'
import { chooseTarget, type Target } from './target.ts'
import { parseLink, parseRef, type Ref } from '../ref.ts'
import { planHubCache, type PullHubCacheDeps, writeToHubCache } from './hf-cache.ts'
import { selectFiles } from '../select.ts'
import { openWholeFetch } from './whole-fetch.ts'

export interface PullDeps extends DownloadDeps, PullHubCacheDeps {
  readonly store: Store
  readonly net: Pick<Net, 'bandwidth' | 'providedChanged'>
  readonly log: Logger
  /** Where pulls without a folder of their own go. */
  readonly modelsFolder: string
  readonly home: string
  readonly webSeeds: WebSeedOptions
  readonly pool: Pick<HashPool, 'hashFile' | 'sha256'>
}

/** How long to look for something that nobody known has. */
const findPatienceMs = 30 * second
/** How long a download waits when those who served it are gone: a restart of a daemon, not a holiday. */
const stallPatienceMs = 5 * minute

type FileRef = Extract<Ref, { kind: 'file' | 'sha256' }>
type ModelRef = Extract<Ref, { kind: 'manifest' }>

export async function pull(
  deps: PullDeps,
  request: PullRequest,
  options: OperationOptions,
): Promise<PulledEvent> {
  const startedMs = deps.clock.monotonic()
  for (const folder of [request.to, request.hfCache]) {
    if (folder !== undefined) await refuseHome(deps, folder)
  }
  // Before anybody is looked for.
  checkWebSeeds(request.webSeeds, deps.webSeeds)
  await checkWebSeedHosts(deps, request.webSeeds, deps.webSeeds, options.signal)
  const ref = resolveName(deps.store, parseRef(request.ref))
  if (request.hfCache !== undefined && ref.kind !== 'manifest') throw noRepository(request)
  const unreached = new Set<string>()
  const run =
    ref.kind === 'manifest'
      ? await pullModel(deps, ref, { request, options, unreached })
      : await pullFile(deps, ref, { request, options, unreached })
  deps.net.providedChanged()
  const { manifest, target, files, result, snapshot } = run
  deps.log.info('pulled', { manifest: manifest.toString(), bytesFetched: result.bytesFetched })
  return {
    type: 'pulled',
    manifest: manifest.toString(),
    path: target.folder,
    ...(snapshot === undefined ? {} : { snapshot }),
    files: files.length,
    bytes: files.reduce((sum, { size }) => sum + size, 0),
    bytesFetched: result.bytesFetched,
    bytesReused: result.bytesReused,
    seconds: (deps.clock.monotonic() - startedMs) / second,
    sources: result.sources.map(({ id, bytes }) => ({ peerId: id, bytes })),
  }
}

interface Asked {
  readonly request: PullRequest
  readonly options: OperationOptions
  /** Given peers that a notice was made of: it is tried again, and again by each part of the pull. */
  readonly unreached: Set<string>
}

interface Run {
  readonly manifest: CID
  readonly target: Target
  readonly files: readonly { readonly size: number }[]
  readonly result: DownloadResult
  /** In the hub cache, when it was written there. */
  readonly snapshot?: string | undefined
}

/** A name is one of a model held here, which is completed or repaired, or one that was given to a link. */
function resolveName(store: Store, ref: Ref): ModelRef | FileRef {
  if (ref.kind !== 'name') return ref
  const found = store.models().find(({ name }) => name === ref.name)
  if (found !== undefined) {
    const { manifest, name } = found
    return { kind: 'manifest', manifest, peers: [], webSeeds: [], name }
  }
  const link = store.findName(ref.name)?.link
  if (link !== undefined) return { kind: 'manifest', ...parseLink(link) }
  throw new NotFoundError(`no model here has the name ${ref.name}, and a name alone finds nobody`, {
    hint: 'pull by a cw:// link, a manifest CID or sha256:HEX; commonweight ls shows what is held here',
  })
}

async function pullModel(deps: PullDeps, ref: ModelRef, asked: Asked): Promise<Run> {
  const { store } = deps
  const { request, options } = asked
  const { manifest: cid } = ref
  const peers = [...request.peers, ...ref.peers]
  const fetched = await fetchManifest(
    deps,
    cid,
    downloadOptions(deps, asked, peers, findPatienceMs),
  )
  const chosen = selectFiles(fetched.manifest.files, request)
  const cached = planHubCache(request, fetched.manifest, {
    cid,
    name: ref.name ?? store.model(cid)?.name,
  })
  using webSeeds = webSeedsOf(deps, asked, ref.webSeeds, fetched.manifest.files)
  const isNew = store.model(cid) === undefined
  const target = await chooseTarget(deps, { manifest: cid, name: ref.name, to: request.to })
  const name = nameFor(store, ref, options)
  const files = chosen.map(file => ({ ...file, place: target.placeOf(file.path) }))
  if (!target.isCopy) {
    store.addModel({
      manifest: cid,
      block: fetched.block,
      name,
      origin: target.origin,
      folder: target.folder,
      pinned: request.seed,
      seeding: request.seed,
      files,
    })
    // What of it is here already can be found and served while the rest is fetched.
    deps.net.providedChanged()
  }
  const keys = [cid, ...files.map(({ root }) => root)]
  const { folder } = target
  const fetching = downloadOptions(deps, asked, peers, stallPatienceMs)
  const fetchWhole = openWholeFetch(deps, { folder, ...fetching })
  try {
    const result = await download(
      { ...deps, finder: webSeeds.finderOver(deps.finder), fetchWhole },
      { keys, folder, files, ownFolder: deps.modelsFolder },
      fetching,
    )
    const snapshot = cached && (await writeToHubCache(deps, { ...cached, files }, options))
    return { manifest: cid, target, files, result, snapshot }
  } catch (error) {
    if (isNew) await forgetFailed(store, cid, error)
    throw error
  }
}

function noRepository({ ref }: PullRequest): InvalidInputError {
  return new InvalidInputError(`${ref} is a file, and a hub cache has models`, {
    hint: 'leave out --hf-cache, or pull the model that it is of',
  })
}

/** A pull that could not even begin (no space, a file in the way) leaves no empty model behind. */
async function forgetFailed(store: Store, manifest: CID, error: unknown): Promise<void> {
  const goesOn = isAbort(error) || error instanceof UnavailableError
  if (goesOn || store.model(manifest)?.bytesHeld !== 0) return
  await store.removeModel(manifest, { deleteFiles: true })
}

/** A link only suggests: it neither renames a model that is here nor takes the name of another. */
function nameFor(
  store: Store,
  { manifest, name }: ModelRef,
  { onEvent }: OperationOptions,
): string | undefined {
  const known = store.model(manifest)?.name
  if (known !== undefined || name === undefined) return known
  const holder = store.models().find(other => other.name === name)
  if (holder === undefined) return name
  const message = `${name} is the name of another model here: this one is kept without a name`
  onEvent({ type: 'notice', level: 'warn', message })
  return undefined
}

/** One file by its root or SHA-256: it becomes a model of its own, named by what was asked for. */
async function pullFile(deps: PullDeps, ref: FileRef, asked: Asked): Promise<Run> {
  const { store } = deps
  const { request } = asked
  const key = ref.kind === 'file' ? ref.root : rawCid(ref.digest)
  const finding = downloadOptions(deps, asked, request.peers, findPatienceMs)
  const table = await fetchFileTable(deps, key, finding)
  const { root } = table
  const { size } = table.table
  const path = request.ref.replace(':', '-').toLowerCase()
  using webSeeds = webSeedsOf(deps, asked, [], [{ path, root, size }])
  const target = await chooseTarget(deps, { manifest: key, name: undefined, to: request.to })
  const wanted: WantedFile = {
    path,
    size,
    sha256: ref.kind === 'sha256' ? ref.digest : undefined,
    root,
    place: target.placeOf(path),
    table,
  }
  const result = await download(
    { ...deps, finder: webSeeds.finderOver(deps.finder) },
    { keys: [key, root], folder: target.folder, files: [wanted], ownFolder: deps.modelsFolder },
    downloadOptions(deps, asked, request.peers, stallPatienceMs),
  )
  const { sha256 } = await fileAt(store, wanted.place)
  const block = encodeManifest(makeManifest([{ path, size, sha256, root }]))
  const manifest = manifestCid(block)
  store.addModel({
    manifest,
    block,
    name: undefined,
    origin: 'pulled',
    folder: target.folder,
    pinned: request.seed,
    seeding: request.seed,
    files: [{ path, place: wanted.place, size, sha256, root }],
  })
  return { manifest, target, files: [wanted], result }
}

async function fileAt(store: Store, place: string): Promise<NewFile> {
  const file = store.fileAt(place, stampOf(await stat(place, { bigint: true })))
  if (file === undefined) throw new StorageError(`${place} changed right after it was fetched`)
  return file
}

/** For this pull only: what one model's files are called says nothing about another's. */
function webSeedsOf(
  deps: PullDeps,
  { request, options }: Asked,
  hinted: readonly string[],
  files: Parameters<typeof openWebSeeds>[1]['files'],
): WebSeeds {
  const onNotice: DownloadOptions['onNotice'] = (level, message) =>
    options.onEvent({ type: 'notice', level, message })
  return openWebSeeds(
    { ...deps, onNotice },
    { named: request.webSeeds, hinted, files },
    deps.webSeeds,
  )
}

function downloadOptions(
  deps: PullDeps,
  { request, options, unreached }: Asked,
  peers: readonly string[],
  patienceMs: number,
): DownloadOptions {
  const meter = openMeter(deps.clock, options.onEvent)
  const nothing = { filesDone: 0, filesTotal: 0, bytesDone: 0, bytesTotal: 0, peers: 0 }
  meter.report({ phase: 'finding', ...nothing })
  const { down } = deps.net.bandwidth
  const onNotice: DownloadOptions['onNotice'] = (level, message) =>
    options.onEvent({ type: 'notice', level, message })
  return {
    signal: options.signal,
    peers,
    allowance: down,
    ownAllowance:
      request.maxDown === undefined ? undefined : new RateLimit(deps.clock, request.maxDown),
    order: request.order,
    patienceMs: request.findTimeoutMs ?? patienceMs,
    onProgress: ({ sources, ...progress }) => meter.report({ ...progress, peers: sources }),
    onNotice,
    onUnreached(peer, reason) {
      if (unreached.has(peer)) return
      unreached.add(peer)
      onNotice('warn', `the given peer ${peer} was not reached: ${reason}`)
    },
  }
}
