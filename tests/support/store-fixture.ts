/** Real stores over real files, with contents small enough to be made by the hundred. */

import { createHash } from 'node:crypto'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type CID, codecs, makeCid } from '../../src/core/cid.ts'
import { type Clock, systemClock } from '../../src/core/clock.ts'
import { sha256 } from '../../src/core/digest.ts'
import { stampOf } from '../../src/core/file-stamp.ts'
import { type Logger, silentLog } from '../../src/core/log.ts'
import { ChunkTable } from '../../src/dag/chunk-table.ts'
import { rootOf } from '../../src/dag/unixfs.ts'
import { type VerifiedBlock, verifyDigest } from '../../src/dag/verify.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Partial } from '../../src/store/partial.ts'
import type { NewFile } from '../../src/store/new-file.ts'
import type { NewModel, PartialSpec, Store } from '../../src/store/store.ts'

export interface TestFile {
  readonly bytes: Buffer
  readonly table: ChunkTable
  readonly root: CID
  readonly sha256: Uint8Array
  readonly blocks: readonly VerifiedBlock[]
}

/** A file of these chunk lengths whose bytes follow from the seed. */
export function testFile(seed: string, lengths: readonly number[]): TestFile {
  const parts = lengths.map((length, index) => bytesOf(`${seed}/${index}`, length))
  return fileOf(parts)
}

/** A file of these chunks. */
export function fileOf(parts: readonly Buffer[]): TestFile {
  const bytes = Buffer.concat(parts)
  const table = ChunkTable.fromRefs(
    parts.map(part => ({ digest: sha256(part), length: part.length })),
  )
  const blocks = parts.map((part, index) => verifyDigest(table.digest(index), part))
  return { bytes, table, root: rootOf(table), sha256: sha256(bytes), blocks }
}

export function bytesOf(seed: string, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(seed).digest()
}

/** Puts the file on the disk, as a user or another tool did. */
export async function writeTestFile(place: string, file: TestFile): Promise<NewFile> {
  await mkdir(dirname(place), { recursive: true })
  await writeFile(place, file.bytes)
  return asNewFile(place, file)
}

/** What an import of the file that lies there gives. */
export async function asNewFile(place: string, file: TestFile): Promise<NewFile> {
  const stamp = stampOf(await stat(place, { bigint: true }))
  return { place, stamp, sha256: file.sha256, root: file.root, table: file.table }
}

/** A model of files in `folder`, by path. The store never looks into the manifest. */
export function testModel(
  folder: string,
  files: Readonly<Record<string, TestFile>>,
  rest: globalThis.Partial<NewModel> = {},
): NewModel {
  const block = Buffer.from(JSON.stringify([folder, Object.keys(files)]))
  return {
    manifest: makeCid(codecs.dagCbor, sha256(block)),
    block,
    name: undefined,
    origin: 'seeded',
    folder,
    pinned: true,
    seeding: true,
    files: Object.entries(files).map(([path, { table, root, sha256: digest }]) => ({
      path,
      place: join(folder, path),
      size: table.size,
      sha256: digest,
      root,
    })),
    ...rest,
  }
}

/** Seeds a model in place: its files are written, indexed and added. */
export async function seedModel(
  store: Store,
  folder: string,
  files: Readonly<Record<string, TestFile>>,
  rest: globalThis.Partial<NewModel> = {},
): Promise<NewModel> {
  const written = Object.entries(files).map(([path, file]) =>
    writeTestFile(join(folder, path), file),
  )
  store.addFiles(await Promise.all(written))
  const model = testModel(folder, files, rest)
  store.addModel(model)
  return model
}

export function partialSpec(folder: string, path: string, file: TestFile): PartialSpec {
  const { root, sha256: digest, table } = file
  return { root, sha256: digest, table, place: join(folder, path), folder }
}

/** Writes these chunks, all of them by default. */
export async function writeChunks(
  partial: Partial,
  file: TestFile,
  chunks: Iterable<number> = file.blocks.keys(),
): Promise<void> {
  for (const chunk of chunks) {
    const block = file.blocks[chunk]
    if (block === undefined) throw new RangeError(`no chunk ${chunk}`)
    await partial.write(chunk, block)
  }
}

/** The databases in `folder`, models in its `models` folder. */
export function openTestStore(
  folder: string,
  log: Logger = silentLog,
  clock: Clock = systemClock,
): Promise<Store> {
  return openStore(
    { clock, log, wholeSha256: async place => sha256(await readFile(place)) },
    {
      index: join(folder, 'index.db'),
      state: join(folder, 'state.db'),
      models: join(folder, 'models'),
      reserveBytes: 0,
      reserveFraction: 0,
    },
  )
}

/** Keeps what was logged. */
export function recordingLog(): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = []
  const record =
    (level: string) =>
    (message: string): void =>
      void lines.push(`${level}: ${message}`)
  return {
    lines,
    log: {
      debug: record('debug'),
      info: record('info'),
      warn: record('warn'),
      error: record('error'),
    },
  }
}
