/**
 * The control API: what the daemon answers and the CLI asks, as zod schemas that both sides check.
 * Prose and examples: docs/spec/control-api.md. JSON over HTTP on a Unix socket (a named pipe on
 * Windows); long operations stream NDJSON events.
 *
 * CIDs and digests travel as text; times are milliseconds since the epoch unless the name says else.
 */

import { z } from 'zod'
import {
  adoptedSchema,
  type AdoptionEvent,
  adoptionSchema,
  adoptRequestSchema,
} from './adoption.ts'
import { errorBodySchema } from './error-body.ts'
import { address, bytesPerSecond, cid, count, globs, path, url } from './fields.ts'
import {
  type ImportedEvent,
  importedSchema,
  importRequestSchema,
  type MirroredEvent,
  mirroredSchema,
  mirrorRequestSchema,
  sourceSchema,
} from './mirror-contract.ts'

export type {
  Changes,
  ImportedEvent,
  ImportRequest,
  MirroredEvent,
  MirrorRequest,
  SourceView,
} from './mirror-contract.ts'
export { mirrorRequestSchema } from './mirror-contract.ts'
export * from './error-body.ts'
export * from './network-contract.ts'
export * from './routes.ts'

/** A manifest CID, file root CID, sha256:HEX, cw:// link or name; parsed by src/ops/ref.ts. */
export const refSchema = z.string().min(1).max(4096)

// Long operations: what is asked.

export const seedRequestSchema = z.strictObject({
  kind: z.literal('seed'),
  /** Absolute files or folders. */
  paths: z.array(path).min(1).max(10_000),
  name: z.string().min(1).max(200).optional(),
})
export type SeedRequest = z.infer<typeof seedRequestSchema>

export const pullRequestSchema = z.strictObject({
  kind: z.literal('pull'),
  ref: refSchema,
  /** Absolute folder; default: a folder of the home. */
  to: path.optional(),
  /** A cache of huggingface_hub, absolute, that gets the model too. */
  hfCache: path.optional(),
  include: globs.default([]),
  exclude: globs.default([]),
  peers: z.array(address).max(100).default([]),
  /** URLs of web servers that hold the files: docs/spec/web-seeds.md. */
  webSeeds: z.array(url).max(16).default([]),
  /** sequential: among equally rare chunks those of the first files first. rarest when left out. */
  order: z.enum(['rarest', 'sequential']).optional(),
  /** Bytes per second, of this pull alone; the node's limit holds too. */
  maxDown: bytesPerSecond.optional(),
  /** Serve what was fetched to others, and keep it pinned. */
  seed: z.boolean().default(true),
  /** How long to look for a model that nobody known has. */
  findTimeoutMs: z.number().int().positive().max(86_400_000).optional(),
})
export type PullRequest = z.infer<typeof pullRequestSchema>

export const verifyRequestSchema = z.strictObject({
  kind: z.literal('verify'),
  /** A REF or absolute path; without it everything held. */
  target: refSchema.optional(),
})
export type VerifyRequest = z.infer<typeof verifyRequestSchema>

export const operationRequestSchema = z.discriminatedUnion('kind', [
  seedRequestSchema,
  pullRequestSchema,
  verifyRequestSchema,
  adoptRequestSchema,
  mirrorRequestSchema,
  importRequestSchema,
])
export type OperationRequest = z.infer<typeof operationRequestSchema>

// Long operations: what is streamed. Zero or more progress events, then one result or error.

export const progressSchema = z.strictObject({
  type: z.literal('progress'),
  /** finding: looking for peers. listing: asking a hub. waiting: nobody serves what is missing now. */
  phase: z.enum([
    'finding',
    'listing',
    'hashing',
    'reusing',
    'fetching',
    'waiting',
    'publishing',
    'verifying',
  ]),
  filesDone: count,
  filesTotal: count,
  bytesDone: count,
  bytesTotal: count,
  bytesPerSecond: z.number().nonnegative(),
  /** Null until it can be said. */
  etaMs: z.number().nonnegative().nullable(),
  /** Sources that gave bytes lately. */
  peers: count,
  /** The file being worked on, when there is one. */
  file: z.string().optional(),
})
export type ProgressEvent = z.infer<typeof progressSchema>

/** Something worth a line on the terminal: a peer banned, a file skipped, a seeder found. */
export const noticeSchema = z.strictObject({
  type: z.literal('notice'),
  level: z.enum(['info', 'warn']),
  message: z.string(),
})
export type NoticeEvent = z.infer<typeof noticeSchema>

export const seededSchema = z.strictObject({
  type: z.literal('seeded'),
  manifest: cid,
  name: z.string().nullable(),
  files: count,
  bytes: count,
  link: z.string(),
})
export type SeededEvent = z.infer<typeof seededSchema>

export const pulledSchema = z.strictObject({
  type: z.literal('pulled'),
  manifest: cid,
  path,
  /** The snapshot's folder in the hub cache, when that was asked for. */
  snapshot: path.optional(),
  files: count,
  bytes: count,
  bytesFetched: count,
  bytesReused: count,
  seconds: z.number().nonnegative(),
  /** A web seed's peerId is its URL. */
  sources: z.array(z.strictObject({ peerId: z.string(), bytes: count })),
})
export type PulledEvent = z.infer<typeof pulledSchema>

export const badRangeSchema = z.strictObject({
  /** Path in the manifest, or absolute when the file belongs to no model. */
  path,
  place: path,
  /** Byte range of the bad chunk; length 0 when the file itself is missing or unreadable. */
  offset: count,
  length: count,
  reason: z.string(),
})
export type BadRange = z.infer<typeof badRangeSchema>

export const verifiedSchema = z.strictObject({
  type: z.literal('verified'),
  files: count,
  bytes: count,
  bad: z.array(badRangeSchema),
})
export type VerifiedEvent = z.infer<typeof verifiedSchema>

export const operationEventSchema = z.discriminatedUnion('type', [
  /** Always the first line: the id to re-attach by, and whether it was running already. */
  z.strictObject({ type: z.literal('operation'), id: z.string(), attached: z.boolean() }),
  progressSchema,
  noticeSchema,
  seededSchema,
  pulledSchema,
  verifiedSchema,
  adoptedSchema,
  adoptionSchema,
  mirroredSchema,
  importedSchema,
  errorBodySchema,
])
export type OperationEvent = z.infer<typeof operationEventSchema>
export type OperationResult =
  | SeededEvent
  | PulledEvent
  | VerifiedEvent
  | AdoptionEvent
  | MirroredEvent
  | ImportedEvent

export const operationSummarySchema = z.strictObject({
  type: z.literal('operation'),
  id: z.string(),
  kind: z.enum(['seed', 'pull', 'verify', 'adopt', 'mirror', 'import']),
  /** What it works on, as the user named it. */
  target: z.string(),
  state: z.enum(['running', 'done', 'failed', 'cancelled']),
  startedAtMs: count,
  progress: progressSchema.nullable(),
  /** Why it failed. */
  error: z.string().nullable(),
})
export type OperationSummary = z.infer<typeof operationSummarySchema>
export const operationsResponseSchema = z.strictObject({
  operations: z.array(operationSummarySchema),
})

// What is held.

export const modelSchema = z.strictObject({
  type: z.literal('model'),
  manifest: cid,
  name: z.string().nullable(),
  origin: z.enum(['seeded', 'pulled']),
  path,
  state: z.enum(['complete', 'partial', 'changed']),
  pinned: z.boolean(),
  seeding: z.boolean(),
  files: count,
  bytes: count,
  bytesHeld: count,
  /** 0 to 100, rounded down: 100 only when every byte is held. */
  percent: z.number().min(0).max(100),
  addedAtMs: count,
})
export type ModelView = z.infer<typeof modelSchema>

export const fileSchema = z.strictObject({
  type: z.literal('file'),
  path,
  place: path,
  size: count,
  sha256: z.string(),
  root: cid,
  state: z.enum(['held', 'partial', 'missing', 'changed']),
  chunks: count,
  chunksHeld: count,
})
export type FileView = z.infer<typeof fileSchema>

export const modelsResponseSchema = z.strictObject({ models: z.array(modelSchema) })
export const modelResponseSchema = z.strictObject({
  model: modelSchema,
  files: z.array(fileSchema),
  /** Where it came from, when that was a hub. */
  source: sourceSchema.nullable(),
})
export type ModelResponse = z.infer<typeof modelResponseSchema>

export const refQuerySchema = z.strictObject({ ref: refSchema })
/** One `ws` in a query is a text, several are a list. */
export const linkQuerySchema = z.strictObject({
  ref: refSchema,
  ws: z.union([url, z.array(url)]).optional(),
})
export const pinRequestSchema = z.strictObject({ ref: refSchema, pinned: z.boolean() })
export const nameRequestSchema = z.strictObject({
  name: z.string().min(1).max(200),
  ref: refSchema,
})
export const namedSchema = z.strictObject({
  type: z.literal('named'),
  name: z.string(),
  manifest: cid,
  /** False: it is fetched when somebody asks the gateway for it. */
  held: z.boolean(),
})
export type NamedView = z.infer<typeof namedSchema>
export const namesResponseSchema = z.strictObject({ names: z.array(namedSchema) })
export const removeQuerySchema = z.strictObject({
  ref: refSchema,
  files: z.enum(['true', 'false']).default('false'),
})

export const removedSchema = z.strictObject({
  type: z.literal('removed'),
  manifest: cid.nullable(),
  filesDeleted: count,
  bytesFreed: count,
  kept: z.array(path),
})
export type RemovedView = z.infer<typeof removedSchema>

export const gcRequestSchema = z.strictObject({ dryRun: z.boolean().default(false) })

export const linkSchema = z.strictObject({
  type: z.literal('link'),
  link: z.string(),
  manifest: cid,
  name: z.string().nullable(),
})
export type LinkView = z.infer<typeof linkSchema>

// The node.

export const statusSchema = z.strictObject({
  type: z.literal('status'),
  version: z.string(),
  apiVersion: z.number().int(),
  pid: count,
  home: path,
  peerId: z.string(),
  addresses: z.array(address),
  /** URL of the gateway for clients of a hub; null when there is none. */
  gateway: z.string().nullable(),
  startedAtMs: count,
  models: count,
  bytesHeld: count,
  connections: count,
  dht: z.strictObject({
    mode: z.enum(['client', 'server']),
    /** Peers in the routing table. */
    peers: count,
  }),
  /** Keys this node announces, and how many are due now. */
  announcing: z.strictObject({ keys: count, due: count, lastAtMs: count.nullable() }),
  /** Folders of caches whose models are adopted as they come and go. */
  watched: z.array(path),
  memory: z.strictObject({ rssBytes: count }),
  /** What a person should know and do, as after damage to a database. */
  warnings: z.array(z.string()),
  /** Those that run, and the few that ended last. */
  operations: z.array(operationSummarySchema),
})
export type StatusView = z.infer<typeof statusSchema>

export const configEntrySchema = z.strictObject({
  type: z.literal('setting'),
  key: z.string(),
  value: z.unknown(),
  source: z.enum(['flag', 'environment', 'file', 'default']),
  /** The flag, variable or file that set it. */
  from: z.string(),
})
export type ConfigEntry = z.infer<typeof configEntrySchema>
export const configResponseSchema = z.strictObject({ settings: z.array(configEntrySchema) })

export const okSchema = z.strictObject({ type: z.literal('ok') })
