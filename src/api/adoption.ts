/** Adoption in the control API: what is asked, and what is streamed. Part of contract.ts. */

import { z } from 'zod'
import { cid, count, globs, path } from './fields.ts'

/** Of one kind; a machine with more users has more daemons. */
const foldersMax = 100
const folders = z.array(path).max(foldersMax).default([])

/** The caches of other programs, by their absolute folders. */
export const adoptRequestSchema = z.strictObject({
  kind: z.literal('adopt'),
  hf: folders,
  ollama: folders,
  lmStudio: folders,
  /** By what the caches call the models; all when empty. */
  include: globs.default([]),
  exclude: globs.default([]),
  /** Say what would be done; nothing is read but names and sizes. */
  dryRun: z.boolean().default(false),
  /** Keep the files when the program deletes its own. */
  pin: z.boolean().default(false),
  /** From now on look again and again, until false comes for the same folders. */
  watch: z.boolean().optional(),
})
export type AdoptRequest = z.infer<typeof adoptRequestSchema>

/** One model of a cache. */
export const adoptedSchema = z.strictObject({
  type: z.literal('adopted'),
  /** What it is called here; of what was skipped, what the cache calls it. */
  name: z.string().nullable(),
  /** What stands for it in the cache. */
  path,
  /** Null for what was skipped, and for what nobody has hashed yet. */
  manifest: cid.nullable(),
  files: count,
  bytes: count,
  state: z.enum(['new', 'known', 'skipped']),
  /** Why it was skipped, what is missing, or that a dry run compared no more than names and sizes. */
  reason: z.string().optional(),
})
export type AdoptedEvent = z.infer<typeof adoptedSchema>

export const adoptionSchema = z.strictObject({
  type: z.literal('adoption'),
  models: count,
  files: count,
  bytes: count,
  skipped: count,
})
export type AdoptionEvent = z.infer<typeof adoptionSchema>
