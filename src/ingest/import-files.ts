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

interface Batch {
  readonly places: string[]
  readonly stamps: FileStamp[]
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

/**
 * The first file that fails ends the import with its error. Fails as HashPool does, and with
 * InvalidInputError when the files make no manifest.
 */
export async function importFiles(
  deps: ImportDeps,
  found: readonly FoundFile[],
  options: ImportOptions = {},
): Promise<ImportedModel> {
  const stop = new AbortController()
  const signal =
    options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal])
  const tally = new Tally(found, options.onProgress)
  const hashed = new Map<string, HashedFile>()

  const known = new Map<string, HashedFile>()
  for (const file of deps.known?.(found) ?? []) known.set(file.place, file)
  const unknown = found.filter(file => {
    const before = known.get(file.place)
    if (before === undefined) return true
    hashed.set(file.path, before)
    tally.reused(file)
    return false
  })
  // A second name of the same bytes is not read again.
  const namesAt = new Map<string, readonly FoundFile[]>()
  const small: Batch = { places: [], stamps: [] }
  const large: string[] = []
  for (const names of Map.groupBy(unknown, file => file.identity).values()) {
    const { place, size, stamp } = names[0] as FoundFile
    namesAt.set(place, names)
    if (size > smallFileBytesMax) {
      large.push(place)
    } else {
      small.places.push(place)
      small.stamps.push(stamp)
    }
  }
  const fresh: HashedFile[] = []
  const onFile = (file: HashedFile): void => {
    for (const [index, name] of (namesAt.get(file.place) ?? []).entries()) {
      const named = index === 0 ? file : secondName(file, name.place)
      fresh.push(named)
      hashed.set(name.path, named)
      if (index === 0) tally.done(name)
      else tally.reused(name)
    }
  }
  const hashOptions = { signal, onFile, onBytes: (bytes: number) => tally.read(bytes) }
  const runs = [
    deps.pool.hashFiles(small.places, { ...hashOptions, stamps: small.stamps }),
    ...startRuns(large, largeAtOnce, place => deps.pool.hashFiles([place], hashOptions)),
  ]
  for (const run of runs) run.catch((error: unknown) => stop.abort(error))
  // All of them, so that no progress is told once the caller goes on.
  await Promise.allSettled(runs)
  signal.throwIfAborted()
  return { ...modelOf(hashed), fresh, bytesReused: tally.bytesReused }
}

function secondName({ stamp, sha256, root, table }: HashedFile, place: string): HashedFile {
  return { place, stamp, sha256, root, table }
}

/** `count` loops that share one queue. */
function startRuns<T>(
  items: readonly T[],
  count: number,
  work: (item: T) => Promise<unknown>,
): Promise<void>[] {
  const queue = items.values()
  return Array.from({ length: Math.min(count, items.length) }, async () => {
    for (const item of queue) await work(item)
  })
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
  readonly #filesTotal: number
  readonly #bytesTotal: number
  readonly #tell: (progress: ImportProgress) => void
  #filesDone = 0
  #bytesDone = 0
  #lastPath: string | undefined
  #toldMs = performance.now()

  constructor(found: readonly FoundFile[], tell: (progress: ImportProgress) => void = () => {}) {
    this.#filesTotal = found.length
    this.#bytesTotal = found.reduce((sum, { size }) => sum + size, 0)
    this.#tell = tell
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

  #report(): void {
    const nowMs = performance.now()
    const isLast = this.#filesDone === this.#filesTotal
    if (!isLast && nowMs - this.#toldMs < progressMs) return
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
