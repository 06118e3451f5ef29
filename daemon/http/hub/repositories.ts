/** The repositories asked for lately: what is worked out from a manifest is kept for the next request. */

import { isAbort, UnavailableError } from '../../../src/core/errors.ts'
import { second } from '../../../src/core/units.ts'
import { commitOf, type GitCommit } from '../../../src/manifest/git-commit.ts'
import type { Gateway, NamedModel } from '../../../src/node.ts'
import type { Repository } from './repository.ts'

/** Files of all commits kept: about 300 bytes of memory each. */
const filesKeptMax = 200_000

/** Clients of a hub give up after ten seconds; it goes on being looked for. */
const manifestMs = 8 * second

/** Whoever asks, a manifest has the same commit. */
export class Commits {
  /** By manifest, least recently used first. */
  readonly #commits = new Map<string, GitCommit>()
  #filesKept = 0

  known(key: string): GitCommit | undefined {
    const commit = this.#commits.get(key)
    if (commit === undefined) return undefined
    this.#commits.delete(key)
    this.#commits.set(key, commit)
    return commit
  }

  keep(key: string, commit: GitCommit): GitCommit {
    if (!this.#commits.has(key)) this.#filesKept += commit.entries.size
    this.#commits.set(key, commit)
    for (const [oldest, { entries }] of this.#commits) {
      if (this.#filesKept <= filesKeptMax || oldest === key) break
      this.#commits.delete(oldest)
      this.#filesKept -= entries.size
    }
    return commit
  }
}

export class Repositories {
  readonly #gateway: Gateway
  readonly #commits: Commits

  constructor(gateway: Gateway, commits: Commits) {
    this.#gateway = gateway
    this.#commits = commits
  }

  /** The first reading of a URL whose repository is known. */
  async find<Reading extends { readonly name: string }>(
    readings: readonly Reading[],
    signal: AbortSignal,
    patienceMs = manifestMs,
  ): Promise<{ repository: Repository; target: Reading } | undefined> {
    for (const target of readings) {
      const model = this.#gateway.find(target.name)
      if (model === undefined) continue
      return { repository: await this.#open(model, signal, patienceMs), target }
    }
    return undefined
  }

  /** The first that the hub has which the gateway passes through, if it does. */
  async lookUp<Reading extends { readonly name: string }>(
    readings: readonly Reading[],
    signal: AbortSignal,
  ): Promise<{ repository: Repository; target: Reading } | undefined> {
    const { lookUp } = this.#gateway
    if (lookUp === undefined) return undefined
    const patience = AbortSignal.any([signal, AbortSignal.timeout(manifestMs)])
    for (const target of readings) {
      const model = await lookUp(target.name, patience).catch((error: unknown) => {
        signal.throwIfAborted()
        if (!isAbort(error)) throw error
        throw new UnavailableError(`the hub has not answered for ${target.name} yet`)
      })
      if (model === undefined) continue
      return { repository: await this.#open(model, signal, manifestMs), target }
    }
    return undefined
  }

  async #open(model: NamedModel, signal: AbortSignal, patienceMs: number): Promise<Repository> {
    const key = model.manifest.toString()
    const commit = this.#commits.known(key) ?? (await this.#read(model, signal, patienceMs))
    const about = (): ReturnType<Gateway['about']> => this.#gateway.about(model)
    const xetHashes = (): ReadonlyMap<string, string> => this.#gateway.xetHashes(model)
    return { model, commit, about, xetHashes }
  }

  async #read(model: NamedModel, signal: AbortSignal, patienceMs: number): Promise<GitCommit> {
    const key = model.manifest.toString()
    const patience = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)])
    const { files, source } = await this.#gateway
      .manifest(model, patience)
      .catch((error: unknown) => {
        signal.throwIfAborted()
        if (!isAbort(error)) throw error
        throw new UnavailableError(`nobody has served ${model.name} yet`)
      })
    return this.#commits.keep(key, commitOf(files, key, source))
  }
}
