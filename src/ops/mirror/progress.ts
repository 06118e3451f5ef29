/** How far a mirror is, and what of it came from where. */

import type { MirroredEvent } from '../../api/contract.ts'
import type { Clock } from '../../core/clock.ts'
import { openMeter } from '../meter.ts'
import type { OperationOptions } from '../operation.ts'

interface CountedFile {
  readonly path: string
  readonly size: number
}

export interface MirrorProgress {
  /** The hub is being asked. */
  listing(): void
  start(files: readonly CountedFile[]): void
  /** Of a file came so many more bytes from the hub. */
  fetched(file: CountedFile, bytes: number): void
  /** Files that are fetched together: so far so many bytes, from so many sources. */
  together(bytes: number, sources: number): void
  /** They ended: of their bytes these came from peers, and those from the hub. */
  togetherDone(bytesFromPeers: number, bytesFetched: number): void
  done(file: CountedFile): void
  bytes(): Pick<MirroredEvent, 'bytesFetched' | 'bytesFromPeers' | 'bytesReused'>
}

export function openProgress(
  clock: Clock,
  { onEvent }: Pick<OperationOptions, 'onEvent'>,
): MirrorProgress {
  const meter = openMeter(clock, onEvent)
  let totals = { filesTotal: 0, bytesTotal: 0 }
  let filesDone = 0
  let bytesDone = 0
  let bytesFetched = 0
  let bytesFromPeers = 0
  let bytesTogether = 0
  let peers = 0
  const fetchedOf = new Map<string, number>()
  const report = (file?: string): void => {
    const underWay = [...fetchedOf.values()].reduce((sum, bytes) => sum + bytes, bytesTogether)
    meter.report({
      phase: 'fetching',
      filesDone,
      ...totals,
      bytesDone: Math.min(totals.bytesTotal, bytesDone + underWay),
      peers,
      ...(file === undefined ? {} : { file }),
    })
  }
  return {
    listing: () => meter.report({ phase: 'listing', filesDone, bytesDone, ...totals, peers }),
    start(files) {
      const bytesTotal = files.reduce((sum, { size }) => sum + size, 0)
      totals = { filesTotal: files.length, bytesTotal }
      report()
    },
    fetched({ path, size }, bytes) {
      peers = 1
      bytesFetched += bytes
      fetchedOf.set(path, Math.min(size, (fetchedOf.get(path) ?? 0) + bytes))
      report(path)
    },
    together(bytes, sources) {
      peers = sources
      bytesTogether = bytes
      report()
    },
    togetherDone(fromPeers, fromHub) {
      bytesFromPeers += fromPeers
      bytesFetched += fromHub
      bytesTogether = 0
    },
    done({ path, size }) {
      fetchedOf.delete(path)
      filesDone += 1
      bytesDone += size
      report(path)
    },
    bytes: () => ({
      bytesFetched,
      bytesFromPeers,
      bytesReused: Math.max(0, bytesDone - bytesFetched - bytesFromPeers),
    }),
  }
}
