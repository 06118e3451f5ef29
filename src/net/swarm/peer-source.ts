/**
 * Source of chunks: a peer, by its channel. Bounds what the peer may answer by what was asked;
 * whether the bytes are right is for dag/verify.ts to say.
 */

import type { CID } from '../../core/cid.ts'
import { chunkBytesMax, recordBytes } from '../../dag/chunk-table.ts'
import { smallSegmentBytes } from '../../dag/chunking.ts'
import { manifestBytesMax } from '../../manifest/manifest.ts'
import type { Source } from '../../transfer/source.ts'
import { frameTypes } from '../../wire/frames.ts'
import { encodeChunkAsk, tableBytesMax } from '../../wire/messages.ts'
import { BulkLanes, type BulkLanesDeps } from './bulk-lanes.ts'
import { keyOf } from './have-feed.ts'
import type { LaneSide } from './peer-lanes.ts'
import type { SwarmChannel } from './swarm-channel.ts'

/**
 * Bytes of the largest chunk table that a file of this size can have: a tensor of 256 KiB or more
 * ends a run of smaller ones (cw-chunk-1), so each 256 KiB begin at most two chunks; one more for
 * either end.
 */
export function tableBytesFor(size: number | undefined): number {
  if (size === undefined) return tableBytesMax
  const chunks = Math.min(size, 2 * Math.ceil(size / smallSegmentBytes) + 2)
  return Math.min(tableBytesMax, chunks * recordBytes)
}

export interface PeerSourceOptions {
  readonly onBan: (reason: Error) => void
  /** Undefined when there are no lanes here. */
  readonly lanes?: LaneSide
  /** Undefined when there is no data plane to dial lanes. */
  readonly bulk?: BulkLanesDeps | undefined
}

/** Of a channel whose hello is done. */
export function openPeerSource(
  channel: SwarmChannel,
  { onBan, lanes, bulk }: PeerSourceOptions,
): Source {
  const { hello, peer, closed } = channel
  const plane =
    lanes === undefined || bulk === undefined
      ? undefined
      : new BulkLanes(bulk, { peer, side: lanes, closed, onBan })
  return {
    ...(hello === undefined ? {} : { requestsMax: hello.requestsInFlightMax }),
    id: peer,
    kind: 'peer',
    isUnlimited: !channel.isLimited,
    closed,
    bulk: async (length, { signal }) => plane?.way(length, signal),
    watch(files, onHave, { signal }) {
      channel.watch(files, onHave, signal)
    },
    async fetchManifest(manifest, { signal }) {
      const bytes = await channel.request({
        type: frameTypes.getManifest,
        payload: manifest.bytes,
        answer: { shape: 'upTo', bytes: manifestBytesMax },
        signal,
      })
      channel.gaveManifest(keyOf(manifest))
      return bytes
    },
    fetchTable(key: CID, size: number | undefined, { signal }) {
      return channel.request({
        type: frameTypes.getTable,
        payload: key.bytes,
        answer: { shape: 'upTo', bytes: tableBytesFor(size) },
        signal,
      })
    },
    async fetchChunk({ root, index, length }, { signal, allocate }) {
      try {
        return await (lanes?.back ?? channel).request({
          type: frameTypes.getChunk,
          payload: encodeChunkAsk({ root, index }),
          answer: { shape: 'exact', bytes: Math.min(length, chunkBytesMax) },
          signal,
          ...(allocate === undefined ? {} : { allocate }),
        })
      } finally {
        plane?.streamed(length)
      }
    },
    ban: onBan,
  }
}
