/** The control API of the network: peers, limits, who announces what. A part of contract.ts. */

import { z } from 'zod'
import { errorBodySchema } from './error-body.ts'
import { address, bytesPerSecond, count } from './fields.ts'

export const peerSchema = z.strictObject({
  type: z.literal('peer'),
  peerId: z.string(),
  address,
  direction: z.enum(['inbound', 'outbound']),
  /** How chunks travel: on a lane (docs/spec/lane.md), on the libp2p stream, or not at all. */
  path: z.enum(['lane', 'stream', 'none']),
  /** Why it is not a lane. */
  pathReason: z.string().nullable(),
  agent: z.string().nullable(),
  connectedAtMs: count,
  bytesReceived: count,
  bytesSent: count,
  /** Files it told us it holds some of. */
  files: count,
  rttMs: z.number().nonnegative().nullable(),
})
export type PeerView = z.infer<typeof peerSchema>
export const peersResponseSchema = z.strictObject({ peers: z.array(peerSchema) })

export const connectRequestSchema = z.strictObject({ address })
export const connectedSchema = z.strictObject({
  type: z.literal('connected'),
  peerId: z.string(),
  address,
})
export type ConnectedView = z.infer<typeof connectedSchema>

/** What is left out stays as it is; null is no limit. Until the daemon stops. */
export const limitsRequestSchema = z.strictObject({
  maxDown: bytesPerSecond.nullable().optional(),
  maxUp: bytesPerSecond.nullable().optional(),
})
export type LimitsRequest = z.infer<typeof limitsRequestSchema>

export const limitsSchema = z.strictObject({
  type: z.literal('limits'),
  /** Bytes per second; null when there is no limit. */
  maxDown: bytesPerSecond.nullable(),
  maxUp: bytesPerSecond.nullable(),
  /** They hold for peers on the LAN and on this machine too. */
  limitLan: z.boolean(),
})
export type LimitsView = z.infer<typeof limitsSchema>

export const providerSchema = z.strictObject({
  type: z.literal('provider'),
  peerId: z.string(),
  addresses: z.array(address),
  /** Which of the model's keys it announced. */
  key: z.string(),
  self: z.boolean(),
})
export type ProviderView = z.infer<typeof providerSchema>

/** The providers route streams NDJSON: providers as found, then one of these, or an error. */
export const providersEventSchema = z.discriminatedUnion('type', [
  providerSchema,
  z.strictObject({ type: z.literal('done'), providers: count, milliseconds: count }),
  errorBodySchema,
])
export type ProvidersEvent = z.infer<typeof providersEventSchema>
