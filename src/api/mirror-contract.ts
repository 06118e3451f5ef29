/** The control API of what comes from hubs: mirror and import. A part of contract.ts. */

import { z } from 'zod'
import { bytesPerSecond, cid, count, globs, path, url } from './fields.ts'

/** `hf:ORG/MODEL@REV`; parsed by src/hub/ref.ts. */
const hubRef = z.string().min(1).max(1024)
/** Of a hub, sent to it and kept nowhere. */
const token = z
  .string()
  .max(4096)
  .regex(/^[\u0021-\u007e]+$/u)

export const mirrorRequestSchema = z.strictObject({
  kind: z.literal('mirror'),
  ref: hubRef,
  /** Absolute folder; default: a folder of the home. */
  to: path.optional(),
  include: globs.default([]),
  exclude: globs.default([]),
  /** Where the hub, or a mirror of it, is asked. */
  upstream: url.optional(),
  token: token.optional(),
  /** Also what a hub gives only to those who accepted its terms. */
  allowGated: z.boolean().default(false),
  maxDown: bytesPerSecond.optional(),
  /** Serve it to others, and keep it pinned. */
  seed: z.boolean().default(true),
})
export type MirrorRequest = z.infer<typeof mirrorRequestSchema>

export const importRequestSchema = z.strictObject({
  kind: z.literal('import'),
  /** Absolute folder: a git clone, or the files of a commit. */
  path,
  /** `hf:ORG/MODEL@COMMIT`; a git clone knows its own. */
  source: hubRef.optional(),
  upstream: url.optional(),
  token: token.optional(),
  allowGated: z.boolean().default(false),
})
export type ImportRequest = z.infer<typeof importRequestSchema>

/** Files of two commits compared by what git calls them. */
export const changesSchema = z.strictObject({
  /** The commit that was held before. */
  since: z.string(),
  added: count,
  changed: count,
  removed: count,
  unchanged: count,
  /** Paths of those that are not the same, up to a hundred. */
  paths: z.array(
    z.strictObject({ path: z.string(), what: z.enum(['added', 'changed', 'removed']) }),
  ),
})
export type Changes = z.infer<typeof changesSchema>

/** Where a model came from: what show tells beside its files. */
export const sourceSchema = z.strictObject({
  type: z.literal('source'),
  hub: z.string(),
  repo: z.string(),
  kind: z.enum(['model', 'dataset', 'space']),
  commit: z.string(),
  /** The model is all of the commit, and its manifest says so. */
  whole: z.boolean(),
  /** Null for what was learned from the manifest alone. */
  upstream: z.string().nullable(),
  seenAtMs: count.nullable(),
  licence: z.string().nullable(),
  gated: z.enum(['auto', 'manual']).nullable(),
  lastModified: z.string().nullable(),
  tags: z.array(z.string()),
  /** Branches and tags of the hub, and their commits. */
  refs: z.record(z.string(), z.string()),
  cardData: z.unknown(),
  /** Files of which the hub's Xet hash is known. */
  xetHashes: count,
})
export type SourceView = z.infer<typeof sourceSchema>

export const mirroredSchema = z.strictObject({
  type: z.literal('mirrored'),
  /** `hf:org/model`, as the hub spells it. */
  ref: z.string(),
  commit: z.string(),
  manifest: cid,
  name: z.string().nullable(),
  path,
  /** False: some files were left out, and the manifest does not name the commit. */
  whole: z.boolean(),
  files: count,
  bytes: count,
  /** From the hub; from peers; what was here. */
  bytesFetched: count,
  bytesFromPeers: count,
  bytesReused: count,
  seconds: z.number().nonnegative(),
  licence: z.string().nullable(),
  gated: z.enum(['auto', 'manual']).nullable(),
  changes: changesSchema.nullable(),
  link: z.string(),
})
export type MirroredEvent = z.infer<typeof mirroredSchema>

export const importedSchema = z.strictObject({
  type: z.literal('imported'),
  ref: z.string(),
  commit: z.string(),
  manifest: cid,
  name: z.string().nullable(),
  files: count,
  bytes: count,
  /** What the files were compared with: the commit itself, or what the hub lists. */
  proof: z.enum(['commit', 'hub']),
  /** Files of the folder that are not of the commit. */
  leftOut: count,
  link: z.string(),
})
export type ImportedEvent = z.infer<typeof importedSchema>
