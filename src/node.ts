/**
 * One running Commonweight: store, host, swarm and the operations over them, opened in that order.
 * This is what the daemon serves over its control API and what an embedding program uses directly.
 */

import { realpath } from 'node:fs/promises'
import type { AdoptionEvent, AdoptRequest } from './api/adoption.ts'
import type {
  ConnectedView,
  LimitsRequest,
  LimitsView,
  LinkView,
  ImportedEvent,
  ImportRequest,
  MirroredEvent,
  MirrorRequest,
  ModelResponse,
  ModelView,
  NamedView,
  PeerView,
  ProviderView,
  PulledEvent,
  PullRequest,
  RemovedView,
  SeededEvent,
  SeedRequest,
  StatusView,
  VerifiedEvent,
  VerifyRequest,
} from './api/contract.ts'
import type { HomePaths } from './api/home.ts'
import type { Clock } from './core/clock.ts'
import type { Logger } from './core/log.ts'
import { openGrowingHashes } from './ingest/growing-hash.ts'
import { type HashPool, openHashPool } from './ingest/hash-file.ts'
import { type Net, openNet, type NetOptions } from './net/net.ts'
import { type CacheOptions, type NodeGateway, openGateway } from './ops/gateway/gateway.ts'
import { nameModel, namesOf } from './ops/gateway/names.ts'
import { changeLimits, limitsView } from './ops/limits.ts'
import { linkOf } from './ops/link.ts'
import { sourceView } from './ops/mirror/hub-facts.ts'
import { importCommit } from './ops/mirror/import.ts'
import type { MirrorDeps } from './ops/mirror/hub-door.ts'
import { openMirrors } from './ops/mirror/mirror.ts'
import { findModel } from './ops/models.ts'
import { findProviders, peerView } from './ops/network.ts'
import type { OperationOptions } from './ops/operation.ts'
import { type LastingRequest, pendingPulls, rememberPull } from './ops/pull/pending.ts'
import { pull, type PullDeps } from './ops/pull/pull.ts'
import { seed, type SeedDeps } from './ops/seed.ts'
import { openUpstream, type Upstream, type UpstreamDeps } from './ops/mirror/upstream.ts'
import { remove } from './ops/remove.ts'
import { verify } from './ops/verify.ts'
import { fileView, modelView, removedView } from './ops/views.ts'
import type { AdoptOptions } from './ops/adopt/adopt.ts'
import { type Adoption, openAdoption } from './ops/adopt/watch.ts'
import { watchFiles } from './ops/watch-files.ts'
import { openWork, type Work } from './ops/work.ts'
import { openStore } from './store/open-store.ts'
import type { Store } from './store/store.ts'
import { FlightBudget } from './transfer/flight-budget.ts'

export {
  type CacheOptions,
  type Gateway,
  type NodeGateway,
  type NamedModel,
  type OpenedFile,
  readBytesMax,
  type Span,
} from './ops/gateway/gateway.ts'
export type { AdoptOptions } from './ops/adopt/adopt.ts'
export type { OperationOptions } from './ops/operation.ts'

export interface NodeDeps {
  readonly clock: Clock
  readonly log: Logger
}

export interface NodeOptions {
  /** Our own version, shown to peers. */
  readonly version: string
  /** From homePaths of api/home.ts; the home exists, is private and is locked by the caller. */
  readonly paths: HomePaths
  readonly net: Omit<NetOptions, 'agent'>
  readonly storage: {
    /** Bytes a download leaves free: the larger of the two, of the target's file system. */
    readonly reserveBytes: number
    readonly reserveFraction: number
  }
  readonly webSeeds: {
    /** Web seeds may lie on this machine and its network. */
    readonly allowPrivate: boolean
  }
  /** What becomes of the files that the gateway fetches for its readers. */
  readonly gateway: CacheOptions & {
    /** A hub whose repositories the gateway passes through; none when left out. */
    readonly upstream?: string | undefined
  }
  /** The environment of programs that are run, like git; with PATH they are found wherever they are. */
  readonly programEnv?: Readonly<Record<string, string>>
}

export type NodeStatus = Omit<
  StatusView,
  | 'type'
  | 'version'
  | 'apiVersion'
  | 'pid'
  | 'home'
  | 'gateway'
  | 'startedAtMs'
  | 'operations'
  | 'memory'
>

export interface Node extends AsyncDisposable {
  readonly peerId: string
  /** What a gateway for other programs asks. */
  readonly gateway: NodeGateway
  addresses(): string[]
  status(): NodeStatus
  peers(): PeerView[]
  connect(address: string, signal: AbortSignal): Promise<ConnectedView>
  limits(): LimitsView
  setLimits(request: LimitsRequest): LimitsView
  models(signal: AbortSignal): Promise<ModelView[]>
  show(ref: string, signal: AbortSignal): Promise<ModelResponse>
  /** With web seeds that are written into it; InvalidInputError for one that no pull could use. */
  link(ref: string, webSeeds?: readonly string[]): LinkView
  pin(ref: string, pinned: boolean): ModelView
  /** Gives a model the name that the gateway answers to; of a link, the model need not be held. */
  name(name: string, ref: string): NamedView
  /** All that the gateway answers to. */
  names(): NamedView[]
  remove(ref: string, options: { files: boolean }): Promise<RemovedView>
  gc(options: { dryRun: boolean }): Promise<RemovedView>
  providers(ref: string, signal: AbortSignal): AsyncIterable<ProviderView>
  seed(request: SeedRequest, options: OperationOptions): Promise<SeededEvent>
  pull(request: PullRequest, options: OperationOptions): Promise<PulledEvent>
  verify(request: VerifyRequest, options: OperationOptions): Promise<VerifiedEvent>
  /** Shares what other programs have in their caches. */
  adopt(request: AdoptRequest, options: AdoptOptions): Promise<AdoptionEvent>
  mirror(request: MirrorRequest, options: OperationOptions): Promise<MirroredEvent>
  /** Files that are here already, as a commit of a hub. */
  import(request: ImportRequest, options: OperationOptions): Promise<ImportedEvent>
  /** Pulls and mirrors that were running when the node last stopped, to be started again. */
  pendingPulls(): LastingRequest[]
}

/** Opens the parts in the order they need each other; closing runs it backwards. */
export async function openNode(deps: NodeDeps, options: NodeOptions): Promise<Node> {
  await using parts = new AsyncDisposableStack()
  const { clock, log } = deps
  const { paths, storage } = options
  const pool = parts.use(openHashPool())
  const growing = parts.use(openGrowingHashes())
  const store = parts.use(
    await openStore(
      {
        clock,
        log,
        wholeSha256: (place, signal) => pool.sha256(place, signal && { signal }),
        growing,
      },
      { index: paths.index, state: paths.state, models: paths.models, ...storage },
    ),
  )
  const net = parts.use(
    await openNet(
      { reader: store, providedKeys: () => store.providedKeys(), clock, log },
      { ...options.net, agent: `commonweight/${options.version}` },
      { key: paths.key, database: paths.network },
    ),
  )
  const work = parts.use(openWork())
  const services: Omit<Services, 'adoption'> = {
    store,
    net,
    finder: net.finder,
    pool,
    work,
    clock,
    log,
    home: await realpath(paths.home),
    modelsFolder: paths.models,
    webSeeds: { ...options.webSeeds, agent: `commonweight/${options.version}` },
    random: Math.random,
    flights: new FlightBudget(),
    programEnv: options.programEnv ?? {},
  }
  const adoption = openAdoption(services)
  void work.run(signal => watchFiles(services, signal))
  void work.run(signal => adoption.watch(signal))
  const upstream = upstreamOf(services, options)
  if (upstream !== undefined) parts.use(upstream)
  const gateway = openGateway(services, options.gateway, upstream)
  return nodeOver({ ...services, adoption }, gateway, parts.move())
}

interface Services extends PullDeps, SeedDeps {
  readonly programEnv: MirrorDeps['programEnv']
  readonly store: Store
  readonly net: Net
  readonly pool: HashPool
  readonly work: Work
  readonly adoption: Adoption
}

function nodeOver(services: Services, gateway: NodeGateway, parts: AsyncDisposable): Node {
  return {
    ...networkOf(services),
    ...modelsOf(services, gateway),
    ...operationsOf(services),
    gateway,
    [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose](),
  }
}

function upstreamOf(services: UpstreamDeps, { gateway }: NodeOptions): Upstream | undefined {
  const { keep, upstream: url } = gateway
  return url === undefined ? undefined : openUpstream(services, { url, pin: keep === 'pin' })
}

type NetworkSide = Pick<
  Node,
  'addresses' | 'connect' | 'limits' | 'peerId' | 'peers' | 'providers' | 'setLimits' | 'status'
>

function networkOf({ store, net, log, adoption }: Services): NetworkSide {
  return {
    peerId: net.peerId,
    addresses: () => net.addresses(),
    peers: () => net.peers().map(peerView),
    async connect(address, signal) {
      return { type: 'connected', ...(await net.connect(address, signal)) }
    },
    limits: () => limitsView(net.bandwidth),
    setLimits: request => changeLimits({ bandwidth: net.bandwidth, log }, request),
    providers: (ref, signal) => findProviders({ store, net }, ref, signal),
    status() {
      const models = store.models()
      const { keys, due, lastAtMs } = net.announcing()
      return {
        peerId: net.peerId,
        addresses: net.addresses(),
        models: models.length,
        bytesHeld: models.reduce((sum, { bytesHeld }) => sum + bytesHeld, 0),
        connections: net.peers().length,
        dht: net.dht(),
        announcing: { keys, due, lastAtMs: lastAtMs ?? null },
        watched: adoption.watched(),
        warnings: store.warnings(),
      }
    },
  }
}

type ModelsSide = Pick<
  Node,
  'gc' | 'link' | 'models' | 'name' | 'names' | 'pin' | 'remove' | 'show'
>

function modelsOf({ store, net, webSeeds }: Services, gateway: NodeGateway): ModelsSide {
  return {
    async models(signal) {
      await store.refresh(undefined, { signal })
      return store.models().map(modelView)
    },
    async show(ref, signal) {
      const { manifest } = findModel(store, ref)
      await store.refresh(manifest, { signal })
      return {
        model: modelView(findModel(store, ref)),
        files: store.filesOf(manifest).map(fileView),
        source: sourceView(store, manifest),
      }
    },
    link: (ref, urls = []) => linkOf({ store, net, webSeeds }, ref, urls),
    pin(ref, pinned) {
      store.setPinned(findModel(store, ref).manifest, pinned)
      return modelView(findModel(store, ref))
    },
    name: (name, ref) => nameModel(store, name, ref),
    names: () => namesOf(store),
    remove: (ref, options) => remove({ store, net, gateway }, ref, options),
    async gc({ dryRun }) {
      const removed = await store.gc({ dryRun })
      if (!dryRun) net.providedChanged()
      return removedView(undefined, removed)
    },
  }
}

type OperationsSide = Pick<
  Node,
  'adopt' | 'import' | 'mirror' | 'pendingPulls' | 'pull' | 'seed' | 'verify'
>

function operationsOf(services: Services): OperationsSide {
  const { store, work, adoption } = services
  const mirrors = openMirrors(services)
  return {
    adopt: (request, options) =>
      work.run(signal => adoption.adopt(request, { ...options, signal }), options.signal),
    seed: (request, options) =>
      work.run(signal => seed(services, request, { ...options, signal }), options.signal),
    pull: (request, options) =>
      work.run(
        signal =>
          rememberPull(
            store,
            request,
            () => pull(services, request, { ...options, signal }),
            () => work.closing.aborted,
          ),
        options.signal,
      ),
    import: (request, options) =>
      work.run(signal => importCommit(services, request, { ...options, signal }), options.signal),
    mirror: (request, options) =>
      work.run(
        signal =>
          rememberPull(
            store,
            request,
            () => mirrors.mirror(request, { ...options, signal }),
            () => work.closing.aborted,
          ),
        options.signal,
      ),
    verify: (request, options) =>
      work.run(signal => verify(services, request, { ...options, signal }), options.signal),
    pendingPulls: () => pendingPulls(store),
  }
}
