/**
 * A Node without store and network: it keeps models and peers in memory, and its operations do what the
 * test tells them to. Like the real one it rejects with the signal's reason, ends its operations when it
 * closes, and remembers the pulls that this ended.
 */

import type {
  ModelView,
  NoticeEvent,
  OperationRequest,
  OperationResult,
  ProgressEvent,
  PullRequest,
} from '../../src/api/contract.ts'
import { raceSignal } from '../../src/core/async.ts'
import { systemClock } from '../../src/core/clock.ts'
import { InvalidInputError, NotFoundError, UnavailableError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { openBandwidth } from '../../src/net/upload/bandwidth.ts'
import type { Gateway, Node, OperationOptions } from '../../src/node.ts'
import { changeLimits, limitsView } from '../../src/ops/limits.ts'

export const somePeer = '12D3KooWGzXzCFnUTGmDkdXS4CPPzj8YRu8fSPkTkZtpJ7YhTtmE'
export const someAddress = `/ip4/127.0.0.1/tcp/4011/p2p/${somePeer}`
export const someManifest = 'bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje'

/** An operation under way, in the hands of the test. */
export interface FakeOperation {
  readonly request: OperationRequest
  readonly signal: AbortSignal
  emit(event: ProgressEvent | NoticeEvent): void
  finish(result: OperationResult): void
  fail(error: Error): void
}

export interface FakeNode extends Node {
  /** Every operation ever started, in order. */
  readonly started: FakeOperation[]
  readonly connected: string[]
  closed: boolean
}

export function openFakeNode(
  options: { pending?: PullRequest[]; onStart?: (operation: FakeOperation) => void } = {},
): FakeNode {
  const models = new Map<string, ModelView>([[someManifest, aModel()]])
  const pending = new Set(options.pending)
  const closing = new AbortController()
  const running = new Set<Promise<unknown>>()
  const started: FakeOperation[] = []
  const connected: string[] = []
  const bandwidth = openBandwidth(systemClock)

  function find(ref: string): ModelView {
    const model = models.get(ref) ?? [...models.values()].find(({ name }) => name === ref)
    if (model === undefined) throw new NotFoundError(`${ref} is not held here`, { hint: 'pull it' })
    return model
  }

  async function operate<T extends OperationResult>(
    request: OperationRequest,
    { signal, onEvent }: OperationOptions,
  ): Promise<T> {
    const both = AbortSignal.any([signal, closing.signal])
    const { promise, resolve, reject } = Promise.withResolvers<OperationResult>()
    const operation = { request, signal: both, emit: onEvent, finish: resolve, fail: reject }
    started.push(operation)
    if (request.kind === 'pull') pending.add(request)
    const ended = raceSignal(promise, both)
    running.add(ended)
    options.onStart?.(operation)
    try {
      const result = (await ended) as T
      if (request.kind === 'pull') pending.delete(request)
      return result
    } catch (error) {
      if (request.kind === 'pull' && !closing.signal.aborted) pending.delete(request)
      throw error
    } finally {
      running.delete(ended)
    }
  }

  const node: FakeNode = {
    started,
    connected,
    closed: false,
    peerId: somePeer,
    addresses: () => [someAddress],
    status: () => ({
      peerId: somePeer,
      addresses: [someAddress],
      models: models.size,
      bytesHeld: [...models.values()].reduce((sum, { bytesHeld }) => sum + bytesHeld, 0),
      connections: connected.length,
      dht: { mode: 'server', peers: 0 },
      announcing: { keys: 0, due: 0, lastAtMs: null },
      watched: [],
      warnings: [],
    }),
    peers: () =>
      connected.map(address => ({
        type: 'peer',
        peerId: somePeer,
        address,
        direction: 'outbound',
        path: 'stream',
        pathReason: 'nothing was asked for yet',
        agent: null,
        connectedAtMs: 0,
        bytesReceived: 0,
        bytesSent: 0,
        files: 0,
        rttMs: null,
      })),
    async connect(address, signal) {
      signal.throwIfAborted()
      if (!address.startsWith('/')) throw new InvalidInputError(`${address} is not a multiaddr`)
      if (address.includes('/tcp/1/')) throw new UnavailableError(`nobody answers at ${address}`)
      connected.push(address)
      return { type: 'connected', peerId: somePeer, address }
    },
    limits: () => limitsView(bandwidth),
    setLimits: request => changeLimits({ bandwidth, log: silentLog }, request),
    async models(signal) {
      signal.throwIfAborted()
      return [...models.values()]
    },
    async show(ref) {
      return { model: find(ref), files: [], source: null }
    },
    gateway: { ...emptyGateway, held: emptyGateway, isFetching: () => false },
    names: () => [],
    name(name, ref) {
      const { manifest } = find(ref)
      return { type: 'named', name, manifest, held: true }
    },
    link(ref, webSeeds = []) {
      const { manifest, name } = find(ref)
      const seeds = webSeeds.map(url => `&ws=${url}`).join('')
      return { type: 'link', link: `cw://${manifest}${seeds}`, manifest, name }
    },
    pin(ref, pinned) {
      const model = { ...find(ref), pinned }
      models.set(model.manifest, model)
      return model
    },
    async remove(ref, { files }) {
      const { manifest, bytesHeld } = find(ref)
      models.delete(manifest)
      const bytesFreed = files ? bytesHeld : 0
      return { type: 'removed', manifest, filesDeleted: files ? 1 : 0, bytesFreed, kept: [] }
    },
    async gc() {
      return { type: 'removed', manifest: null, filesDeleted: 0, bytesFreed: 0, kept: [] }
    },
    async *providers(ref, signal) {
      const { manifest } = find(ref)
      const addresses = [someAddress]
      yield { type: 'provider', peerId: somePeer, addresses, key: manifest, self: true }
      signal.throwIfAborted()
    },
    seed: (request, operation) => operate(request, operation),
    pull: (request, operation) => operate(request, operation),
    verify: (request, operation) => operate(request, operation),
    adopt: (request, operation) => operate(request, operation),
    mirror: (request, operation) => operate(request, operation),
    import: (request, operation) => operate(request, operation),
    pendingPulls: () => [...pending],
    async [Symbol.asyncDispose]() {
      closing.abort(new DOMException('the node is closing', 'AbortError'))
      await Promise.allSettled(running)
      node.closed = true
    },
  }
  return node
}

export function aModel(): ModelView {
  return {
    type: 'model',
    manifest: someManifest,
    name: 'org/model',
    origin: 'seeded',
    path: '/models/model',
    state: 'complete',
    pinned: true,
    seeding: true,
    files: 1,
    bytes: 5,
    bytesHeld: 5,
    percent: 100,
    addedAtMs: 1,
  }
}

export function aPull(ref: string, more: Partial<PullRequest> = {}): PullRequest {
  return {
    kind: 'pull',
    ref,
    include: [],
    exclude: [],
    peers: [],
    webSeeds: [],
    seed: true,
    ...more,
  }
}

export function aProgress(bytesDone: number): ProgressEvent {
  return {
    type: 'progress',
    phase: 'fetching',
    filesDone: 0,
    filesTotal: 1,
    bytesDone,
    bytesTotal: 1_000_000,
    bytesPerSecond: 0,
    etaMs: null,
    peers: 0,
  }
}

export function aResult(): Extract<OperationResult, { type: 'pulled' }> {
  return {
    type: 'pulled',
    manifest: someManifest,
    path: '/models/model',
    files: 1,
    bytes: 5,
    bytesFetched: 5,
    bytesReused: 0,
    seconds: 1,
    sources: [],
  }
}

const emptyGateway: Gateway = {
  find: () => undefined,
  names: () => [],
  manifest: () => Promise.reject(new NotFoundError('a fake node has no manifests')),
  about: () => null,
  xetHashes: () => new Map(),
  open: () => {
    throw new NotFoundError('a fake node has no files')
  },
}
