/**
 * Row about size: what a chunk costs the main thread when a model of 1 GiB and one of 100 GiB is
 * downloaded. The bytes never touch that thread, so here there are none: sources whose lanes deliver
 * at once into a sparse file. Index, chunk plan, bitmap, picker, session and store are the real ones.
 */

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { systemClock } from '../../../src/core/clock.ts'
import { sha256 } from '../../../src/core/digest.ts'
import { UnavailableError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { GiB, KiB, MiB, minute } from '../../../src/core/units.ts'
import { ChunkTable } from '../../../src/dag/chunk-table.ts'
import { rootOf } from '../../../src/dag/unixfs.ts'
import { openStore } from '../../../src/store/open-store.ts'
import type { Store } from '../../../src/store/store.ts'
import { download } from '../../../src/transfer/download.ts'
import type { DownloadDeps } from '../../../src/transfer/request.ts'
import type {
  BulkSource,
  HaveUpdate,
  Source,
  SourceOptions,
  WatchedFile,
} from '../../../src/transfer/source.ts'
import { FakeFinder } from '../../support/fake-source.ts'
import type { Row } from './bed.ts'

const sourcesTotal = 4

/** One file of so many chunks, all different, of bytes that nobody has. */
function makeTable(bytes: number): ChunkTable {
  const refs = Array.from({ length: bytes / MiB }, (_, index) => ({
    digest: sha256(Buffer.from(`${bytes}/${index}`)),
    length: MiB,
  }))
  return ChunkTable.fromRefs(refs)
}

/** Holds every chunk and delivers at once, as a lane with no end of speed. */
class InstantSource implements Source {
  readonly id: string
  readonly kind = 'peer'
  readonly requestsMax = 64
  readonly closed = new AbortController().signal
  readonly #bulk: BulkSource = {
    async fetchChunkTo(_, __, { onChecked }) {
      await turn()
      onChecked()
    },
  }
  readonly #table: ChunkTable

  constructor(id: string, table: ChunkTable) {
    this.id = id
    this.#table = table
  }

  bulk(): Promise<BulkSource> {
    return Promise.resolve(this.#bulk)
  }

  watch(
    files: readonly WatchedFile[],
    onHave: (update: HaveUpdate) => void,
    { signal }: SourceOptions,
  ): void {
    setImmediate(() => {
      if (signal.aborted) return
      for (const { root, chunks } of files) onHave({ root, gained: [[0, chunks]], lost: [] })
    })
  }

  fetchManifest(): Promise<Uint8Array> {
    return Promise.reject(new UnavailableError('nobody asks for it here'))
  }

  fetchTable(): Promise<Uint8Array> {
    return Promise.resolve(this.#table.bytes)
  }

  fetchChunk(): Promise<Uint8Array> {
    return Promise.reject(new UnavailableError('only by the lane'))
  }

  ban(reason: Error): void {
    throw reason
  }
}

/** The disk need not have the room: a file in which nothing is written takes none. */
function withRoom(store: Store): DownloadDeps['store'] {
  return {
    addFiles: files => store.addFiles(files),
    checkSpace: () => Promise.resolve(),
    chunkTable: root => store.chunkTable(root),
    fileAt: (place, stamp) => store.fileAt(place, stamp),
    findChunk: digest => store.findChunk(digest),
    findFile: digest => store.findFile(digest),
    held: root => store.held(root),
    manifestBlock: manifest => store.manifestBlock(manifest),
    openPartial: spec => store.openPartial(spec),
    tidy: folder => store.tidy(folder),
  }
}

interface Cost {
  readonly msPerChunk: number
  readonly rssGrowthBytes: number
}

async function costOf(folder: string, bytes: number): Promise<Cost> {
  await mkdir(folder, { recursive: true })
  const table = makeTable(bytes)
  const claimed = sha256(table.bytes)
  await using store = await openStore(
    // The file holds nothing: its whole digest is taken on trust, or reading it would be all we see.
    { clock: systemClock, log: silentLog, wholeSha256: () => Promise.resolve(claimed) },
    {
      index: join(folder, 'index.sqlite'),
      state: join(folder, 'state.sqlite'),
      models: join(folder, 'models'),
      reserveBytes: 0,
      reserveFraction: 0,
    },
  )
  const ids = Array.from({ length: sourcesTotal }, (_, n) => `instant-${n}`)
  const finder = new FakeFinder(ids.map(id => new InstantSource(id, table)))
  const target = join(folder, 'target')
  const root = rootOf(table)
  const rssBefore = process.memoryUsage.rss()
  const before = process.threadCpuUsage()
  await download(
    {
      store: withRoom(store),
      finder,
      clock: systemClock,
      log: silentLog,
      random: Math.random,
    },
    {
      keys: [root],
      folder: target,
      files: [
        {
          path: 'weights.bin',
          size: table.size,
          sha256: claimed,
          root,
          place: join(target, 'weights.bin'),
        },
      ],
    },
    {
      signal: new AbortController().signal,
      peers: [],
      patienceMs: 5 * minute,
      onProgress: () => undefined,
      onNotice: (_, message) => process.stderr.write(`  ${message}\n`),
    },
  )
  const { user, system } = process.threadCpuUsage(before)
  return {
    msPerChunk: (user + system) / 1000 / table.count,
    rssGrowthBytes: process.memoryUsage.rss() - rssBefore,
  }
}

export const scale: Row = {
  name: 'scale',
  async run({ world, report, quick }) {
    const folder = (name: string): string => join(world.folder, `scale-${name}`)
    // Compiles what the measured runs use.
    await costOf(folder('warm-up'), 4 * GiB)
    for (const gib of [1, quick ? 10 : 100]) {
      const { msPerChunk, rssGrowthBytes } = await costOf(folder(String(gib)), gib * GiB)
      process.stderr.write(`  ${gib} GiB: memory grew by ${Math.round(rssGrowthBytes / KiB)} KiB\n`)
      const name = `main thread per chunk of a ${gib} GiB model`
      report.bar({ name, value: msPerChunk, must: 0.25, goal: 0.1, more: false, unit: 'ms' })
    }
  },
}
