/**
 * Pull-through: a name that this node does not know is looked up at a hub, and what is read of it is
 * fetched once, checked, kept and shared. Off unless `gateway.upstream` names a hub.
 * docs/spec/mirroring.md, section 8.
 */

import { join } from 'node:path'
import type { SourceView } from '../../api/contract.ts'
import { raceSignal } from '../../core/async.ts'
import { type CID, rawCid } from '../../core/cid.ts'
import { sha256 } from '../../core/digest.ts'
import { CommonweightError, messageOf, NotFoundError, UnavailableError } from '../../core/errors.ts'
import { KiB, minute } from '../../core/units.ts'
import type { HubFile, HubInfo } from '../../hub/answers.ts'
import { type Hub, openHub } from '../../hub/hub.ts'
import { hubName, isHubName, parseHubRef, repoPath } from '../../hub/ref.ts'
import type { Manifest, ManifestFile } from '../../manifest/manifest.ts'
import { chunkingId, manifestType, manifestVersion } from '../../manifest/manifest.ts'
import { comparePaths } from '../../manifest/paths.ts'
import { regularStamp } from '../../store/files.ts'
import type { NamedModel, Store } from '../../store/store.ts'
import type { OpenedFile } from '../gateway/opened-file.ts'
import { factsOf, factsView, type HubFacts, xetOf } from './hub-facts.ts'
import { type MirrorDeps, refuseClosed } from './hub-door.ts'
import { checkPaths, commitFolder } from './plan.ts'
import { keepCommit, type Obtained } from './keep.ts'
import { UpstreamFile } from './upstream-file.ts'
import type { Work } from '../work.ts'

export interface UpstreamDeps extends MirrorDeps {
  readonly store: Store
  readonly work: Work
}

export interface UpstreamOptions {
  readonly url: string
  /** Models that come this way are pinned. */
  readonly pin: boolean
}

export interface Upstream extends Disposable {
  /** As the hub has it now; undefined when it has not, or would not give it to everybody. */
  find(name: string, signal: AbortSignal): Promise<NamedModel | undefined>
  /** Undefined for a model that did not come from find, or a while ago. */
  repository(model: CID): UpstreamRepository | undefined
}

export interface UpstreamRepository {
  readonly manifest: Manifest
  readonly about: SourceView
  readonly xetHashes: ReadonlyMap<string, string>
  open(file: ManifestFile): OpenedFile
}

/**
 * Beside what is read these are fetched, too: nobody reads `.gitattributes` or an empty file, and without them
 * a commit is never whole.
 */
const alongBytesMax = 256 * KiB
const alongFilesMax = 64
/** What a branch is now is asked anew after this. */
const freshMs = 5 * minute
/** A name that is not there: clients ask for the same a few times. */
const absentMs = minute
/** At a time: who asks for names that nobody has must not make us flood a hub. */
const lookUpsMax = 16
/** Each has the list of its files in memory. */
const repositoriesMax = 64
const absentMax = 1000

export function openUpstream(deps: UpstreamDeps, options: UpstreamOptions): Upstream {
  return new HubUpstream(deps, options)
}

class HubUpstream implements Upstream {
  readonly #deps: UpstreamDeps
  readonly #options: UpstreamOptions
  readonly #hub: Hub
  /** By name in lower case, the one found last at the end. */
  readonly #found = new Map<string, { readonly repository: Repository; readonly atMs: number }>()
  readonly #looking = new Map<string, Promise<Repository | undefined>>()
  readonly #absent = new Map<string, number>()

  constructor(deps: UpstreamDeps, options: UpstreamOptions) {
    this.#deps = deps
    this.#options = options
    const { allowPrivate, agent } = deps.webSeeds
    this.#hub = openHub(
      { ...deps, onNotice: (level, message) => deps.log[level](message) },
      { upstream: options.url, allowPrivate, agent },
    )
  }

  async find(name: string, signal: AbortSignal): Promise<NamedModel | undefined> {
    if (!isHubName(name)) return undefined
    const key = name.toLowerCase()
    const now = this.#deps.clock.monotonic()
    const known = this.#found.get(key)
    if (known !== undefined && now - known.atMs < freshMs) return known.repository.model
    if ((this.#absent.get(key) ?? -Infinity) > now) return undefined
    let looking = this.#looking.get(key)
    if (looking === undefined && this.#looking.size >= lookUpsMax) {
      throw new UnavailableError('too many names are being looked up at the hub')
    }
    if (looking === undefined) {
      looking = this.#deps.work
        .run(inner => this.#look(name, inner))
        .finally(() => this.#looking.delete(key))
      // Whoever asked may have left.
      looking.catch(() => undefined)
      this.#looking.set(key, looking)
    }
    return (await raceSignal(looking, signal))?.model
  }

  repository(model: CID): Repository | undefined {
    const key = model.toString()
    for (const { repository } of this.#found.values()) {
      if (repository.model.manifest.toString() === key) return repository
    }
    return undefined
  }

  [Symbol.dispose](): void {
    this.#hub[Symbol.dispose]()
  }

  async #look(name: string, signal: AbortSignal): Promise<Repository | undefined> {
    const key = name.toLowerCase()
    const { clock, log } = this.#deps
    try {
      const info = await this.#hub.info(parseHubRef(`hf:${name}`), signal)
      refuseClosed(info, { allowGated: false })
      const before = this.#found.get(key)
      const atMs = clock.monotonic()
      if (before?.repository.info.commit === info.commit) {
        this.#found.set(key, { ...before, atMs })
        return before.repository
      }
      const files = await this.#hub.files(info, info.commit, signal)
      checkPaths(files)
      const facts = factsOf(info, await this.#hub.refs(info, signal), files)
      const listed = { info, files, facts, hub: this.#hub }
      const repository = new Repository(this.#deps, this.#options, listed)
      remember(this.#found, key, { repository, atMs }, repositoriesMax)
      return repository
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof CommonweightError) || error instanceof UnavailableError) throw error
      const isGone = error instanceof NotFoundError
      log.info('not passed through', { name, isGone, error: messageOf(error) })
      remember(this.#absent, key, clock.monotonic() + absentMs, absentMax)
      return undefined
    }
  }
}

function remember<T>(map: Map<string, T>, key: string, value: T, sizeMax: number): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > sizeMax && oldest !== undefined) map.delete(oldest)
}

interface Listed {
  readonly info: HubInfo
  readonly files: readonly HubFile[]
  readonly facts: HubFacts
  readonly hub: Hub
}

class Repository implements UpstreamRepository {
  readonly model: NamedModel
  readonly info: HubInfo
  readonly manifest: Manifest
  readonly #deps: UpstreamDeps
  readonly #options: UpstreamOptions
  readonly #listed: Listed
  readonly #files: ReadonlyMap<string, HubFile>
  readonly #coming = new Map<string, UpstreamFile>()
  readonly #here = new Map<string, Obtained>()
  #keeping: Promise<void> = Promise.resolve()

  constructor(deps: UpstreamDeps, options: UpstreamOptions, listed: Listed) {
    const { info, files } = listed
    this.#deps = deps
    this.#options = options
    this.#listed = listed
    this.info = info
    this.#files = new Map(files.map(file => [file.path, file]))
    this.manifest = claimOf(info, files)
    // Names what the hub lists, and no manifest that anybody could have.
    const manifest = rawCid(sha256(Buffer.from(`upstream ${repoPath(info)} ${info.commit}`)))
    this.model = { name: repoPath(info), manifest, addedAtMs: undefined, link: undefined }
  }

  get about(): SourceView {
    const { facts, info } = this.#listed
    const seenAtMs = this.#deps.clock.now()
    return factsView({ ...info, hub: hubName, upstream: this.#options.url, seenAtMs }, facts)
  }

  get xetHashes(): ReadonlyMap<string, string> {
    return xetOf(this.#listed.facts)
  }

  open({ path }: ManifestFile): OpenedFile {
    const file = this.#files.get(path)
    if (file === undefined) throw new NotFoundError(`the commit has no ${path}`)
    const known = this.#coming.get(path)
    const coming = known?.isUsable === true ? known : this.#start(file)
    return coming.open()
  }

  #start(file: HubFile): UpstreamFile {
    const { info, hub } = this.#listed
    const { modelsFolder, net } = this.#deps
    const folder = commitFolder(this.#deps, info)
    const take = (bytes: number, signal: AbortSignal): Promise<void> =>
      net.bandwidth.down.take(bytes, signal)
    const coming = new UpstreamFile(
      { ...this.#deps, hub, take, requestsAtOnce: 1 },
      {
        from: { ...info, file },
        sha256: undefined,
        folder,
        place: join(folder, ...file.path.split('/')),
        ownFolder: modelsFolder,
        onBytes: () => undefined,
      },
    )
    this.#coming.set(file.path, coming)
    void coming.ended.then(obtained => {
      if (obtained === undefined) return
      // One after the other, and none of them rejects.
      this.#keeping = this.#keeping.then(() => this.#keep({ from: file, file: obtained }))
    })
    return coming
  }

  /** What is here of the commit so far is a model that is shared; the whole of it has the name. */
  async #keep(obtained: Obtained): Promise<void> {
    const { info, facts, files } = this.#listed
    const { store, log } = this.#deps
    const { pin, url } = this.#options
    const folder = commitFolder(this.#deps, info)
    try {
      if (this.#here.size === 0) {
        await this.#addKnown()
        this.#startAlong()
      }
      this.#here.set(obtained.from.path, obtained)
      const isWhole = this.#here.size === files.length
      const kept = keepCommit(this.#deps, {
        info,
        folder,
        isWhole,
        obtained: [...this.#here.values()],
        facts,
        upstream: url,
        pinned: pin,
        seeding: true,
        isNamed: isWhole,
        onNotice: (level, message) => log[level](message),
      })
      log.info('kept from upstream', { repo: info.repo, manifest: kept.manifest, isWhole })
      for (const part of this.#parts()) {
        if (part.toString() !== kept.manifest) await store.removeModel(part, { deleteFiles: false })
      }
      await store.tidy(folder)
    } catch (error) {
      log.warn('not kept from upstream', { repo: info.repo, error: messageOf(error) })
    }
  }

  #startAlong(): void {
    const small = this.#listed.files.filter(({ path, size }) => {
      return size <= alongBytesMax && !this.#coming.has(path) && !this.#here.has(path)
    })
    for (const file of small.slice(0, alongFilesMax)) this.#start(file)
  }

  /** What an earlier run of the node had of this commit. */
  async #addKnown(): Promise<void> {
    const { store } = this.#deps
    for (const { path, place, state } of this.#parts().flatMap(part => store.filesOf(part))) {
      const from = this.#files.get(path)
      const stamp = state === 'held' ? await regularStamp(place) : undefined
      const file = stamp === undefined ? undefined : store.fileAt(place, stamp)
      if (from !== undefined && file !== undefined) this.#here.set(path, { from, file })
    }
  }

  /** The models of some files of this commit, which one of more files replaces. */
  #parts(): CID[] {
    const { store } = this.#deps
    const { type, repo, commit } = this.info
    const folder = commitFolder(this.#deps, this.info)
    return store
      .originsOf({ hub: hubName, type, repo })
      .filter(({ isWhole, revision }) => !isWhole && revision === commit)
      .map(({ manifest }) => manifest)
      .filter(manifest => store.model(manifest)?.folder === folder)
  }
}

/**
 * The commit as a manifest would have it, as far as the hub says: roots, and the SHA-256 of small files, are
 * not known before the bytes are here. It is never encoded.
 */
function claimOf(info: HubInfo, files: readonly HubFile[]): Manifest {
  const { type, repo, commit } = info
  const claimed = files.map(({ path, size, gitOid, sha256: hex }) => {
    const unknown = sha256(Buffer.from(`${commit} ${path}`))
    const digest = hex === undefined ? unknown : Buffer.from(hex, 'hex')
    return { path, size, sha256: digest, root: rawCid(unknown), gitOid, lfs: hex !== undefined }
  })
  return {
    type: manifestType,
    version: manifestVersion,
    chunking: chunkingId,
    files: claimed.toSorted((a, b) => comparePaths(a.path, b.path)),
    source: { hub: hubName, repo, type, commit },
  }
}
