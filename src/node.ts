/**
 * One running Commonweight: store, host, swarm and the operations over them, opened in that order.
 * This is what the daemon serves over its control API and what an embedding program uses directly.
 */

import type {
  ConnectedView,
  LinkView,
  ModelResponse,
  ModelView,
  NoticeEvent,
  PeerView,
  ProgressEvent,
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
import type { NetOptions } from './net/net.ts'

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
}

export interface OperationOptions {
  readonly signal: AbortSignal
  /** Called a few times a second at most. */
  readonly onEvent: (event: ProgressEvent | NoticeEvent) => void
}

export type NodeStatus = Omit<
  StatusView,
  'type' | 'version' | 'apiVersion' | 'pid' | 'home' | 'startedAtMs' | 'operations' | 'memory'
>

export interface Node extends AsyncDisposable {
  readonly peerId: string
  addresses(): string[]
  status(): NodeStatus
  peers(): PeerView[]
  connect(address: string, signal: AbortSignal): Promise<ConnectedView>
  models(signal: AbortSignal): Promise<ModelView[]>
  show(ref: string, signal: AbortSignal): Promise<ModelResponse>
  link(ref: string): LinkView
  pin(ref: string, pinned: boolean): ModelView
  remove(ref: string, options: { files: boolean }): Promise<RemovedView>
  gc(options: { dryRun: boolean }): Promise<RemovedView>
  providers(ref: string, signal: AbortSignal): AsyncIterable<ProviderView>
  seed(request: SeedRequest, options: OperationOptions): Promise<SeededEvent>
  pull(request: PullRequest, options: OperationOptions): Promise<PulledEvent>
  verify(request: VerifyRequest, options: OperationOptions): Promise<VerifiedEvent>
  /** Pulls that were running when the node last stopped, to be started again. */
  pendingPulls(): PullRequest[]
}
