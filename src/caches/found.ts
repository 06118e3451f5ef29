/**
 * What the caches of other programs hold: models by the files they lie in. Readers look and hash
 * nothing; what a cache says of a file is a claim until the bytes bear it out. Whoever can write into a
 * cache is a stranger: names are refused as a manifest refuses them, and no link leads out of it.
 */

import type { FoundFile } from '../ingest/folder.ts'
import type { SourceType } from '../manifest/source.ts'

export const cacheKinds = ['hf', 'ollama', 'lm-studio'] as const
export type CacheKind = (typeof cacheKinds)[number]

/** A cache on this machine. */
export interface CacheFolder {
  readonly kind: CacheKind
  /** Absolute. */
  readonly folder: string
}

/** What a cache says that a file is. */
export interface FileClaim {
  /** Of the git blob: of the file itself, or of its LFS pointer. Undefined where nobody uses git. */
  readonly gitOid: string | undefined
  /** 64 hex digits: of a file in LFS, or of an Ollama blob. */
  readonly sha256: string | undefined
}

/** A commit of a hub of which every file is here. */
export interface WholeCommit {
  readonly commit: string
  readonly repo: string
  /** Undefined for what manifests do not know, like kernels. */
  readonly type: SourceType | undefined
}

export interface FoundModel {
  readonly kind: 'model'
  readonly cache: CacheKind
  /** What the cache calls it; of a model without a name there, its folder. */
  readonly title: string
  /** What it may be called here: its title, when it has a name there and is the newest of that name. */
  readonly name: string | undefined
  /** Absolute: what stands for the model in the cache, a folder or a file. Gone with the model. */
  readonly folder: string
  /** Absolute: what the models that may follow each other under one name have in common. */
  readonly family: string
  /** `place` is a real path: no link is on the way. */
  readonly files: readonly FoundFile[]
  /** By path, for files that the cache says something of. */
  readonly claims: ReadonlyMap<string, FileClaim>
  /** The hub's commit that the files are of, all of them or a part: 40 hex digits. */
  readonly commit: string | undefined
  readonly whole: WholeCommit | undefined
  /** The cache knows of more files than are here. */
  readonly isPart: boolean
  /** What a person should know, as that a part is missing. */
  readonly remark: string | undefined
}

/** Something that looks like a model and cannot be shared. */
export interface RefusedModel {
  readonly kind: 'refused'
  readonly cache: CacheKind
  readonly title: string
  readonly name: string | undefined
  readonly folder: string
  readonly reason: string
}

export type FoundEntry = FoundModel | RefusedModel

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined
}

/** Files of one model that are looked at in one go. */
export const looksAtOnce = 64

/** Undefined when nothing is missing. */
export function partRemark(here: number, missing: number): string | undefined {
  return missing === 0 ? undefined : `a part: ${here} of ${here + missing} files`
}
