/** Files on disk → a model: each hashed once, unless it is known, and the manifest of all of them. */

import type { FileStamp } from '../core/file-stamp.ts'
import { sealManifest, type SealedManifest } from '../manifest/manifest.ts'
import type { FoundFile } from './folder.ts'
import type { HashedFile, HashPool } from './hash-file.ts'
import { smallFileBytesMax } from './hash-jobs.ts'

export interface ImportDeps {
  readonly pool: HashPool
  /** Those that were hashed before and have the same stamp still: they are not hashed again. */
  known?(files: readonly FoundFile[]): Iterable<HashedFile>
}

export interface ImportProgress {
  readonly filesDone: number
  readonly filesTotal: number
  readonly bytesDone: number
  readonly bytesTotal: number
  /** The path of the file that was finished last. */
  readonly file?: string
}

export interface ImportOptions {
  readonly signal?: AbortSignal
  /** At most every 50 ms, and once all files are done. */
  readonly onProgress?: (progress: ImportProgress) => void
}

export interface ImportedFile {
  /** In the manifest. */
  readonly path: string
  readonly file: HashedFile
}

export interface ImportedModel extends SealedManifest {
  /** In the order of the manifest. */
  readonly files: readonly ImportedFile[]
  /** Of these, the ones that were not known. */
  readonly fresh: readonly HashedFile[]
  readonly bytes: number
  /** Of these, what was known or a second name of a file hashed here. */
  readonly bytesReused: number
}

/** One is read by two threads while the next is planned; more would be planned long before. */
const largeAtOnce = 3

/** Between two reports of progress: small files finish 100,000 times a second. */
const progressMs = 50

/** Looked up and handed to the threads together. */
const batchFiles = 1024

/**
 * The first file that fails ends the import with its error. Fails as HashPool does, and with
 * InvalidInputError when the files make no manifest.
 */
export async function importFiles(
  deps: ImportDeps,
  found: readonly FoundFile[],
  options: ImportOptions = {},
): Promise<ImportedModel> {
  await using model = openImport(deps, options)
  model.add(found)
  return await model.finish()
}

/** An import that is given its files while they are still being looked for: fails as importFiles does. */
export interface ModelImport extends AsyncDisposable {
  /** Aborted with the reason when a file failed or the caller's signal is: no more need be found. */
  readonly signal: AbortSignal
  add(found: readonly FoundFile[]): void
  /** Once all files were added. */
  finish(): Promise<ImportedModel>
}

export function openImport(deps: ImportDeps, options: ImportOptions = {}): ModelImport {
  return new RunningImport(deps, options)
}

/** A file on disk, and all names that it was found under. */
interface NamedFile {
  readonly names: FoundFile[]
  hashed: HashedFile | undefined
}

class RunningImport implements ModelImport {
  readonly signal: AbortSignal
  readonly #deps: ImportDeps
  readonly #stop = new AbortController()
  readonly #tally: Tally
  /** Found, and not looked at here. */
  readonly #found: FoundFile[] = []
  /** By path. */
  readonly #hashed = new Map<string, HashedFile>()
  readonly #fresh: HashedFile[] = []
  readonly #byIdentity = new Map<string, NamedFile>()
  readonly #byPlace = new Map<string, NamedFile>()
  readonly #large: string[] = []
  #largeRunning = 0
  readonly #runs: Promise<unknown>[] = []

  constructor(deps: ImportDeps, { signal, onProgress }: ImportOptions) {
    this.#deps = deps
    this.signal =
      signal === undefined ? this.#stop.signal : AbortSignal.any([signal, this.#stop.signal])
    this.#tally = new Tally(onProgress)
  }

  add(found: readonly FoundFile[]): void {
    this.#tally.found(found)
    for (const file of found) this.#found.push(file)
    if (this.#found.length >= batchFiles) this.#takeFound()
  }

  async finish(): Promise<ImportedModel> {
    this.#takeFound()
    // All of them, so that no progress is told once the caller goes on.
    await this.#settled()
    this.signal.throwIfAborted()
    this.#tally.end()
    const { bytesReused } = this.#tally
    return { ...modelOf(this.#hashed), fresh: this.#fresh, bytesReused }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#settled()
  }

  /** Runs begin while others are waited for. */
  async #settled(): Promise<void> {
    while (this.#runs.length > 0) await Promise.all(this.#runs.splice(0))
  }

  #takeFound(): void {
    if (this.signal.aborted) return
    const found = this.#found.splice(0)
    const known = new Map<string, HashedFile>()
    for (const file of this.#deps.known?.(found) ?? []) known.set(file.place, file)
    const places: string[] = []
    const stamps: FileStamp[] = []
    for (const file of found) {
      const before = known.get(file.place)
      if (before !== undefined) {
        this.#hashed.set(file.path, before)
        this.#tally.reused(file)
      } else if (this.#isFirstName(file)) {
        if (file.size > smallFileBytesMax) this.#large.push(file.place)
        else {
          places.push(file.place)
          stamps.push(file.stamp)
        }
      }
    }
    if (places.length > 0) this.#runs.push(this.#hash(places, stamps))
    while (this.#largeRunning < largeAtOnce && this.#large.length > 0) {
      this.#runs.push(this.#hashLarge())
    }
  }

  /** A second name of the same bytes is not read again. */
  #isFirstName(file: FoundFile): boolean {
    const other = this.#byIdentity.get(file.identity)
    if (other === undefined) {
      const named = { names: [file], hashed: undefined }
      this.#byIdentity.set(file.identity, named)
      this.#byPlace.set(file.place, named)
      return true
    }
    if (other.hashed === undefined) other.names.push(file)
    else this.#noteSecond(file, other.hashed)
    return false
  }

  /** Never rejects: who fails aborts the signal. */
  async #hash(places: readonly string[], stamps?: readonly FileStamp[]): Promise<void> {
    try {
      await this.#deps.pool.hashFiles(places, {
        signal: this.signal,
        ...(stamps === undefined ? {} : { stamps }),
        onFile: file => this.#noteHashed(file),
        onBytes: bytes => this.#tally.read(bytes),
      })
    } catch (error) {
      this.#stop.abort(error)
    }
  }

  /** One of a few loops that share the queue. */
  async #hashLarge(): Promise<void> {
    this.#largeRunning += 1
    for (;;) {
      const place = this.#large.shift()
      if (place === undefined || this.signal.aborted) break
      await this.#hash([place])
    }
    this.#largeRunning -= 1
  }

  #noteHashed(file: HashedFile): void {
    const named = this.#byPlace.get(file.place)
    const [first, ...others] = named?.names ?? []
    if (named === undefined || first === undefined) return
    named.hashed = file
    this.#fresh.push(file)
    this.#hashed.set(first.path, file)
    this.#tally.done(first)
    for (const other of others) this.#noteSecond(other, file)
  }

  #noteSecond(name: FoundFile, file: HashedFile): void {
    const named = secondName(file, name.place)
    this.#fresh.push(named)
    this.#hashed.set(name.path, named)
    this.#tally.reused(name)
  }
}

function secondName({ stamp, sha256, root, table }: HashedFile, place: string): HashedFile {
  return { place, stamp, sha256, root, table }
}

function modelOf(
  hashed: ReadonlyMap<string, HashedFile>,
): Omit<ImportedModel, 'fresh' | 'bytesReused'> {
  const entries = [...hashed].map(([path, { stamp, sha256, root }]) => {
    return { path, size: stamp.size, sha256, root }
  })
  const sealed = sealManifest(entries)
  const files = sealed.manifest.files.map(({ path }) => ({
    path,
    file: hashed.get(path) as HashedFile,
  }))
  const bytes = entries.reduce((sum, { size }) => sum + size, 0)
  return { ...sealed, files, bytes }
}

/** What was done so far, told now and then and at the end. */
class Tally {
  bytesReused = 0
  readonly #tell: (progress: ImportProgress) => void
  #filesTotal = 0
  #bytesTotal = 0
  #filesDone = 0
  #bytesDone = 0
  #lastPath: string | undefined
  #toldMs = performance.now()

  constructor(tell: (progress: ImportProgress) => void = () => {}) {
    this.#tell = tell
  }

  found(files: readonly FoundFile[]): void {
    this.#filesTotal += files.length
    for (const { size } of files) this.#bytesTotal += size
  }

  read(bytes: number): void {
    this.#bytesDone += bytes
    this.#report()
  }

  done({ path }: FoundFile): void {
    this.#filesDone += 1
    this.#lastPath = path
    this.#report()
  }

  reused(file: FoundFile): void {
    this.bytesReused += file.size
    this.#bytesDone += file.size
    this.done(file)
  }

  /** All is done. */
  end(): void {
    this.#toldMs = Number.NEGATIVE_INFINITY
    this.#report()
  }

  #report(): void {
    const nowMs = performance.now()
    if (nowMs - this.#toldMs < progressMs) return
    this.#toldMs = nowMs
    this.#tell({
      filesDone: this.#filesDone,
      filesTotal: this.#filesTotal,
      bytesDone: this.#bytesDone,
      bytesTotal: this.#bytesTotal,
      ...(this.#lastPath === undefined ? {} : { file: this.#lastPath }),
    })
  }
}
