import { yamux } from '@chainsafe/libp2p-yamux'
import type { MultiaddrConnection, Stream, StreamMuxer } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { expect, test } from 'vitest'
import { KiB, MiB } from '../../../../src/core/units.ts'
import { spareWindowUpdates } from '../../../../src/net/host/window-updates.ts'

interface Pair {
  readonly stream: Stream
  /** Messages that came back to the sender. */
  readonly answers: () => number
  readonly received: () => number
}

function muxerOf(connection: MultiaddrConnection): StreamMuxer {
  return yamux()().createStreamMuxer(connection)
}

/** A stream between two muxers that is established both ways. */
async function openPair(): Promise<Pair> {
  const [outbound, inbound] = multiaddrConnectionPair()
  let answers = 0
  let received = 0
  const sender = muxerOf(outbound)
  const receiver = muxerOf(inbound)
  receiver.addEventListener('stream', ({ detail }) => {
    detail.addEventListener('message', ({ data }) => (received += data.byteLength))
  })
  const stream = await sender.createStream()
  stream.send(new Uint8Array(1))
  await settle(() => received === 1)
  outbound.addEventListener('message', () => (answers += 1))
  return { stream, answers: () => answers, received: () => received }
}

async function settle(isDone: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1000 && !isDone(); turn += 1) {
    await new Promise(resolve => setImmediate(resolve))
  }
}

spareWindowUpdates()

test('small messages are not answered one by one', async () => {
  const { stream, answers, received } = await openPair()
  for (let sent = 0; sent < 100; sent += 1) {
    stream.send(new Uint8Array(100))
    await settle(() => received() === 1 + (sent + 1) * 100)
  }
  expect(received()).toBe(10_001)
  expect(answers()).toBe(0)
})

test('a sender is let go on long before its window is used up', async () => {
  const { stream, answers, received } = await openPair()
  const piece = new Uint8Array(64 * KiB)
  const pieces = (4 * MiB) / piece.length
  for (let sent = 0; sent < pieces; sent += 1) {
    expect(stream.send(piece)).toBe(true)
    await settle(() => received() === 1 + (sent + 1) * piece.length)
  }
  expect(received()).toBe(1 + 4 * MiB)
  expect(answers()).toBeGreaterThan(0)
  expect(answers()).toBeLessThanOrEqual(pieces / 2)
})
