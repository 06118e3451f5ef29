/** What a hub answers of a repository, checked and bounded: its facts, its refs, its files. */

import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import { ProtocolError } from '../core/errors.ts'
import { fileBytesMax } from '../core/limits.ts'
import { manifestFilesMax } from '../manifest/manifest.ts'
import { pathBytesMax } from '../manifest/paths.ts'
import { isRepoName } from '../manifest/source.ts'
import { isDeep } from './card.ts'
import { apiPath, type HubRef, type HubRepo } from './ref.ts'

export interface HubInfo extends HubRepo {
  readonly commit: string
  readonly isPrivate: boolean
  readonly isDisabled: boolean
  /** How access is asked for; false when nobody asks. */
  readonly gated: 'auto' | 'manual' | false
  readonly licence: string | undefined
  readonly tags: readonly string[]
  readonly pipelineTag: string | undefined
  readonly libraryName: string | undefined
  readonly lastModified: string | undefined
  /** The head of the model card, as JSON. */
  readonly cardData: unknown
}

export interface HubFile {
  readonly path: string
  /** Of the file itself, not of its pointer. */
  readonly size: number
  /** Of the git blob: the file, or its pointer. */
  readonly gitOid: string
  /** SHA-256 of the file, when it lies in LFS. */
  readonly sha256: string | undefined
  readonly xetHash: string | undefined
}

export interface HubRefs {
  readonly branches: Readonly<Record<string, string>>
  readonly tags: Readonly<Record<string, string>>
}

/** Files and folders of one commit. */
export const entriesMax = 2 * manifestFilesMax
/** Branches and tags that are remembered, of each kind. */
const refsMax = 1000

// What is not named is dropped.

const oid = z.string().regex(/^[0-9a-f]{40}$/u)
const sha256 = z.string().regex(/^[0-9a-f]{64}$/u)
const shortText = z.string().max(500)

export const infoSchema = z.object({
  id: z.string(),
  sha: oid,
  private: z.boolean().optional(),
  disabled: z.boolean().nullish(),
  gated: z.union([z.literal('auto'), z.literal('manual'), z.boolean()]).nullish(),
  tags: z.array(shortText).max(10_000).nullish(),
  pipeline_tag: shortText.nullish(),
  library_name: shortText.nullish(),
  lastModified: shortText.nullish(),
  cardData: z.unknown().optional(),
})

const refSchema = z.object({ name: shortText, targetCommit: oid })
export const refsSchema = z.object({
  branches: z.array(refSchema).max(100_000),
  tags: z.array(refSchema).max(100_000).default([]),
})

const entrySchema = z.object({
  type: shortText,
  // What is longer is no path of a model; a unit has a byte or more.
  path: z.string().max(pathBytesMax),
  oid,
  size: z.number().int().nonnegative().max(fileBytesMax).default(0),
  lfs: z.object({ oid: sha256, size: z.number().int().nonnegative().max(fileBytesMax) }).nullish(),
  xetHash: sha256.nullish(),
})
export const treeSchema = z.array(entrySchema).max(entriesMax)

export function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const where = issue?.path.join('.') ?? ''
  throw new ProtocolError(`the hub's answer is not understood: ${where} ${issue?.message ?? ''}`, {
    hint: 'is this the URL of a hub?',
  })
}

export function infoOf(ref: HubRef, answer: z.infer<typeof infoSchema>): HubInfo {
  const { id, sha, gated, cardData, tags } = answer
  if (!isRepoName(id))
    throw new ProtocolError(`the hub calls it ${JSON.stringify(id.slice(0, 200))}`)
  const licence = (tags ?? []).find(tag => tag.startsWith('license:'))?.slice('license:'.length)
  return {
    type: ref.type,
    // As the hub spells it: repositories are renamed, and asked for in any case.
    repo: id,
    commit: sha,
    isPrivate: answer.private ?? false,
    isDisabled: answer.disabled ?? false,
    gated: gated === true ? 'manual' : (gated ?? false),
    licence,
    tags: tags ?? [],
    pipelineTag: answer.pipeline_tag ?? undefined,
    libraryName: answer.library_name ?? undefined,
    lastModified: answer.lastModified ?? undefined,
    cardData: isDeep(cardData) ? null : (cardData ?? null),
  }
}

/** A renamed repository is redirected to; another one's name would be taken by a mere answer. */
export function checkRename(asked: HubRepo, found: HubRepo, { pathname }: URL): void {
  const isSame = asked.repo.toLowerCase() === found.repo.toLowerCase()
  if (isSame || pathname.startsWith(apiPath(found, '/revision/'))) return
  throw new ProtocolError(`the hub answers with ${found.repo} when asked for ${asked.repo}`, {
    hint: `ask for hf:${found.repo} if that is what you want`,
  })
}

export function named(refs: readonly z.infer<typeof refSchema>[]): Record<string, string> {
  return Object.fromEntries(
    refs.slice(0, refsMax).map(({ name, targetCommit }) => [name, targetCommit]),
  )
}

export function fileOf(entry: z.infer<typeof entrySchema>): HubFile | undefined {
  if (entry.type === 'directory') return undefined
  if (entry.type !== 'file') {
    throw new ProtocolError(`${entry.path} is a ${entry.type.slice(0, 40)}, not a file`)
  }
  const { path, lfs, xetHash } = entry
  return {
    path,
    size: lfs?.size ?? entry.size,
    gitOid: entry.oid,
    sha256: lfs?.oid,
    xetHash: xetHash ?? undefined,
  }
}

/** Only path and query are taken: a mirror of a hub may name the hub itself here. */
export function nextPage({ link }: IncomingHttpHeaders, upstream: URL): string | undefined {
  const text = Array.isArray(link) ? link.join(',') : (link ?? '')
  const next = /<([^<>]{1,4000})>\s*;[^,]{0,200}\brel="?next"?/u.exec(text)?.[1]
  if (next === undefined || !URL.canParse(next, upstream.href)) return undefined
  const { pathname, search } = new URL(next, upstream)
  return `${pathname}${search}`
}
