/** Where the control API answers and how its version is told: all that a client needs before an answer comes. */

/** Raised with every incompatible change; a client refuses a daemon of another version. */
export const apiVersion = 1

/** Names the API version in every request and response. */
export const apiVersionHeader = 'commonweight-api'

export const routes = {
  status: '/v1/status',
  peers: '/v1/peers',
  connect: '/v1/connect',
  models: '/v1/models',
  model: '/v1/model',
  pin: '/v1/model/pin',
  name: '/v1/model/name',
  link: '/v1/model/link',
  providers: '/v1/providers',
  gc: '/v1/gc',
  limits: '/v1/limits',
  config: '/v1/config',
  operations: '/v1/operations',
  operation: '/v1/operations/:id',
  operationEvents: '/v1/operations/:id/events',
  stop: '/v1/stop',
} as const
