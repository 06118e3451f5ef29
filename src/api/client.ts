/** The control API from the asking side: the daemon on a home, as calls with types. */

import type { z } from 'zod'
import { ConflictError } from '../core/errors.ts'
import type * as api from './contract.ts'
import type { HomePaths } from './home.ts'
import { routes } from './routes.ts'
import { ask, askLines, isNoDaemon, reach } from './transport.ts'
import type { Answer, Call, SchemaName } from './transport.ts'

type OperationRequest = z.input<typeof api.operationRequestSchema>
/** An error is thrown, not yielded; the last event is the result. */
type Events<T> = AsyncIterable<Exclude<T, api.ErrorBody>>

/**
 * Each call connects on its own. They throw the errors of core/errors.ts as the daemon threw them;
 * UnavailableError when no daemon answers, ConflictError when it speaks another version.
 */
export interface Client {
  /** Whether a daemon answers, of whatever version. */
  isRunning(signal?: AbortSignal): Promise<boolean>
  status(signal?: AbortSignal): Promise<api.StatusView>
  config(signal?: AbortSignal): Promise<api.ConfigEntry[]>
  /** Returns when the daemon has heard it; its pid file is gone when it is. Works for any version. */
  stop(signal?: AbortSignal): Promise<void>

  models(signal?: AbortSignal): Promise<api.ModelView[]>
  model(ref: string, signal?: AbortSignal): Promise<api.ModelResponse>
  remove(ref: string, what: { files: boolean }, signal?: AbortSignal): Promise<api.RemovedView>
  pin(ref: string, pinned: boolean, signal?: AbortSignal): Promise<api.ModelView>
  name(name: string, ref: string, signal?: AbortSignal): Promise<api.NamedView>
  names(signal?: AbortSignal): Promise<api.NamedView[]>
  /** With web seeds that are written into it. */
  link(ref: string, webSeeds: readonly string[], signal?: AbortSignal): Promise<api.LinkView>
  gc(request: { dryRun: boolean }, signal?: AbortSignal): Promise<api.RemovedView>

  peers(signal?: AbortSignal): Promise<api.PeerView[]>
  connect(address: string, signal?: AbortSignal): Promise<api.ConnectedView>
  limits(signal?: AbortSignal): Promise<api.LimitsView>
  /** Returns what holds then. */
  setLimits(request: api.LimitsRequest, signal?: AbortSignal): Promise<api.LimitsView>
  /** Providers as they are found, then `done`. */
  providers(ref: string, signal?: AbortSignal): Events<api.ProvidersEvent>

  operations(signal?: AbortSignal): Promise<api.OperationSummary[]>
  /** Starts an operation, or attaches to the same one. Who stops reading leaves it running. */
  run(request: OperationRequest, signal?: AbortSignal): Events<api.OperationEvent>
  /** The events of an operation that is running or ended lately. */
  attach(id: string, signal?: AbortSignal): Events<api.OperationEvent>
  cancel(id: string, signal?: AbortSignal): Promise<void>
}

export function openClient(paths: HomePaths): Client {
  function call<N extends SchemaName>(schema: N, what: Call): Promise<Answer<N>> {
    return ask(paths, what, schema)
  }
  function operationEvents(what: Call): Events<api.OperationEvent> {
    return askLines(paths, what, 'operationEventSchema')
  }
  async function status(signal?: AbortSignal): Promise<api.StatusView> {
    return call('statusSchema', { path: routes.status, signal })
  }
  return {
    status,
    async isRunning(signal) {
      try {
        await reach(paths, { path: routes.status, signal })
        return true
      } catch (error) {
        if (isNoDaemon(error)) return false
        if (error instanceof ConflictError) return true
        throw error
      }
    },
    config: async signal =>
      (await call('configResponseSchema', { path: routes.config, signal })).settings,
    async stop(signal) {
      await call('okSchema', { path: routes.stop, body: {}, signal })
    },

    models: async signal =>
      (await call('modelsResponseSchema', { path: routes.models, signal })).models,
    model: (ref, signal) =>
      call('modelResponseSchema', { path: query(routes.model, { ref }), signal }),
    remove(ref, { files }, signal) {
      const path = query(routes.model, { ref, files: String(files) })
      return call('removedSchema', { path, method: 'DELETE', signal })
    },
    pin: (ref, pinned, signal) =>
      call('modelSchema', { path: routes.pin, body: { ref, pinned }, signal }),
    name: (name, ref, signal) =>
      call('namedSchema', { path: routes.name, body: { name, ref }, signal }),
    names: async signal => (await call('namesResponseSchema', { path: routes.name, signal })).names,
    link(ref, webSeeds, signal) {
      const seeds = webSeeds.map(url => `&ws=${encodeURIComponent(url)}`).join('')
      return call('linkSchema', { path: `${query(routes.link, { ref })}${seeds}`, signal })
    },
    gc: (body, signal) => call('removedSchema', { path: routes.gc, body, signal }),

    peers: async signal =>
      (await call('peersResponseSchema', { path: routes.peers, signal })).peers,
    connect: (address, signal) =>
      call('connectedSchema', { path: routes.connect, body: { address }, signal }),
    limits: signal => call('limitsSchema', { path: routes.limits, signal }),
    setLimits: (body, signal) => call('limitsSchema', { path: routes.limits, body, signal }),
    providers: (ref, signal) =>
      askLines(paths, { path: query(routes.providers, { ref }), signal }, 'providersEventSchema'),

    operations: async signal =>
      (await call('operationsResponseSchema', { path: routes.operations, signal })).operations,
    run: (body, signal) => operationEvents({ path: routes.operations, body, signal }),
    attach: (id, signal) => operationEvents({ path: withId(routes.operationEvents, id), signal }),
    async cancel(id, signal) {
      await call('okSchema', { path: withId(routes.operation, id), method: 'DELETE', signal })
    },
  }
}

function query(path: string, parameters: Record<string, string>): string {
  return `${path}?${new URLSearchParams(parameters).toString()}`
}

function withId(route: string, id: string): string {
  return route.replace(':id', encodeURIComponent(id))
}
