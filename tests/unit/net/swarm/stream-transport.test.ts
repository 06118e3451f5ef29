import type { Stream } from '@libp2p/interface'
import { streamPair } from '@libp2p/utils'
import { beforeEach, expect, test } from 'vitest'
import { LimitError, ProtocolError, UnavailableError } from '../../../../src/core/errors.ts'
import { KiB, MiB } from '../../../../src/core/units.ts'
import { openStreamTransport } from '../../../../src/net/swarm/stream-transport.ts'
import {
  encodeFrame,
  encodeHeader,
  type FrameHeader,
  type FrameReceiver,
  frameTypes,
} from '../../../../src/wire/frames.ts'
import { encodeReason } from '../../../../src/wire/messages.ts'
import type { FrameTransport } from '../../../../src/wire/transport.ts'
import { settle } from '../../../support/fake-clock.ts'

const frame = encodeFrame(frameTypes.refusal, 1, encodeReason({ code: 0, text: 'not here' }))

class Receiver implements FrameReceiver {
  readonly got: { header: FrameHeader; payload: Uint8Array | undefined }[] = []
  readonly errors: Error[] = []
  onFrame: () => void = () => undefined

  place(header: FrameHeader): Uint8Array {
    return new Uint8Array(header.length)
  }

  frame(header: FrameHeader, payload: Uint8Array | undefined): void {
    this.got.push({ header, payload })
    this.onFrame()
  }

  failed(error: Error): void {
    this.errors.push(error)
  }
}

let ours: Stream
let theirs: Stream
let transport: FrameTransport
let receiver: Receiver

beforeEach(async () => {
  const pair = await streamPair()
  ours = pair[0]
  theirs = pair[1]
  transport = openStreamTransport(ours)
  receiver = new Receiver()
  transport.start(receiver)
})

/** The pair delivers by timers of its own, a millisecond for each message: so many of them, one after the other. */
async function arrived(messages = 40): Promise<void> {
  await settle()
  for (let left = messages; left > 0; left -= 1)
    await new Promise(resolve => setTimeout(resolve, 1))
}

test('hands over frames that come in any cut, and counts their bytes', async () => {
  for (const byte of frame) theirs.send(Uint8Array.of(byte))
  theirs.send(Buffer.concat([frame, frame]))
  await arrived()
  expect(receiver.got).toHaveLength(3)
  expect(transport.bytesReceived).toBe(3 * frame.length)
})

test('small frames of one turn leave together', async () => {
  let messages = 0
  let bytes = 0
  theirs.addEventListener('message', ({ data }) => {
    messages += 1
    bytes += data.byteLength
  })
  for (let index = 0; index < 100; index += 1) transport.send(Uint8Array.from(frame))
  await arrived()
  expect(bytes).toBe(100 * frame.length)
  expect(messages).toBe(1)
  expect(transport.bytesSent).toBe(bytes)
})

test('bytes that break the rules are told once, and nothing after them is decoded', async () => {
  const bad = encodeHeader({ type: 0x05, flags: 0, id: 0, length: 0 })
  theirs.send(Buffer.concat([frame, bad, frame]))
  theirs.send(frame)
  await arrived()
  expect(receiver.got).toHaveLength(1)
  expect(receiver.errors).toHaveLength(1)
  expect(receiver.errors[0]).toBeInstanceOf(ProtocolError)
})

test('a bug in the receiver is told to it, and ends no process', async () => {
  receiver.onFrame = () => {
    throw new TypeError('a bug')
  }
  theirs.send(frame)
  await arrived()
  expect(receiver.errors[0]).toBeInstanceOf(TypeError)
})

test.for([
  ['between frames', frame, 'the peer closed the stream'],
  ['inside one', frame.subarray(0, 5), 'inside a frame'],
] as const)('an end %s closes it, and is no breach of the rules', async ([, bytes, text]) => {
  theirs.send(bytes)
  await theirs.close()
  await arrived()
  expect(transport.closed.reason).toBeInstanceOf(UnavailableError)
  expect(String(transport.closed.reason)).toMatch(text)
})

test('what came before the end is delivered, even when all of it was there before the start', async () => {
  const [mine, other] = await streamPair()
  other.send(frame)
  await other.close()
  await arrived()
  const late = openStreamTransport(mine)
  const got = new Receiver()
  late.start(got)
  await arrived()
  expect(got.got).toHaveLength(1)
  expect(late.closed.aborted).toBe(true)
})

test('a reset closes it', async () => {
  theirs.abort(new Error('cut'))
  await arrived()
  expect(transport.closed.reason).toBeInstanceOf(UnavailableError)
})

test('close lets out what was sent, aborts, and after that nothing is sent or waited for', async () => {
  let bytes = 0
  theirs.addEventListener('message', ({ data }) => {
    bytes += data.byteLength
  })
  theirs.addEventListener('remoteCloseWrite', () => void theirs.close())
  transport.send(Uint8Array.from(frame))
  const reason = new UnavailableError('done')
  await transport.close(reason)
  expect(bytes).toBe(frame.length)
  expect(transport.closed.reason).toBe(reason)
  expect(transport.send(frame)).toBe(false)
  await expect(transport.drained()).rejects.toBe(reason)
})

test('a peer that does not read stops data by drained, and is reset when control frames pile up', async () => {
  theirs.pause()
  Object.defineProperty(ours, 'sendData', {
    value: () => ({ sentBytes: 0, canSendMore: false }),
  })
  transport.send(new Uint8Array(256 * KiB))
  const waiting = transport.drained()
  waiting.catch(() => undefined)
  let hasDrained = false
  void waiting.then(
    () => (hasDrained = true),
    () => undefined,
  )
  await arrived()
  expect(hasDrained).toBe(false)
  for (let sent = 0; sent < 6 * MiB; sent += 64 * KiB) transport.send(new Uint8Array(64 * KiB))
  expect(transport.closed.reason).toBeInstanceOf(LimitError)
  await expect(waiting).rejects.toBeInstanceOf(LimitError)
})
