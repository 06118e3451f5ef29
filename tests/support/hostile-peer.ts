/** A peer that speaks raw bytes: a real libp2p node under a test's control, with none of our rules. */

import type { Libp2p, Stream, StreamMessageEvent } from '@libp2p/interface'
import type { PeerHint } from '../../src/net/addresses.ts'
import { swarmProtocol } from '../../src/net/swarm/open-stream.ts'
import { encodeFrame, FrameDecoder, type FrameHeader, frameTypes } from '../../src/wire/frames.ts'
import { encodeHello, type Hello } from '../../src/wire/messages.ts'
import { openLibp2p } from './libp2p-pair.ts'

export interface RawFrame extends FrameHeader {
  readonly payload: Uint8Array
}

/** One stream, from the inside of the hostile peer. */
export class RawChannel {
  readonly stream: Stream
  readonly frames: RawFrame[] = []
  readonly closed: Promise<void>
  onFrame: (frame: RawFrame) => void = () => undefined
  /** Off where the memory of the other side is measured. */
  keepsFrames = true

  constructor(stream: Stream) {
    this.stream = stream
    const decoder = new FrameDecoder({
      place: header => new Uint8Array(header.length),
      frame: (header, payload = new Uint8Array(0)) => {
        const frame = { ...header, payload }
        if (this.keepsFrames) this.frames.push(frame)
        this.onFrame(frame)
      },
      failed: () => undefined,
    })
    stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
      decoder.push(data.subarray())
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    stream.addEventListener('close', () => resolve())
    stream.addEventListener('remoteCloseWrite', () => resolve())
    this.closed = promise
  }

  /** Sends and never complains: the other side may be gone. */
  send(...parts: Uint8Array[]): void {
    if (this.stream.writeStatus !== 'writable') return
    try {
      this.stream.send(Buffer.concat(parts))
    } catch {
      // It was gone.
    }
  }

  /** Sends as fast as the other side reads. */
  async sendSlowly(bytes: Uint8Array): Promise<void> {
    this.send(bytes)
    // Polled: the stream's own onDrain() resolves only once.
    while (this.stream.status === 'open' && this.stream.writableNeedsDrain) {
      await new Promise(resolve => setTimeout(resolve, 1))
    }
  }

  hello(change: Partial<Hello> = {}): void {
    this.send(helloFrame(change))
  }

  ofType(type: number): RawFrame[] {
    return this.frames.filter(frame => frame.type === type)
  }
}

export function helloFrame(change: Partial<Hello> = {}): Uint8Array {
  const hello: Hello = {
    revision: 1,
    requestsInFlightMax: 64,
    watchesMax: 1000,
    agent: 'hostile',
    features: [],
    ...change,
  }
  return encodeFrame(frameTypes.hello, 0, encodeHello(hello))
}

export interface HostilePeer extends AsyncDisposable {
  readonly libp2p: Libp2p
  readonly id: string
  hint(): PeerHint
  /** Dials a victim and opens a stream to it. */
  dial(hint: PeerHint): Promise<RawChannel>
}

/** `behave` is called for each stream that a victim opens to it. */
export async function openHostilePeer(
  behave: (channel: RawChannel) => void = () => undefined,
): Promise<HostilePeer> {
  const libp2p = await openLibp2p()
  await libp2p.handle(swarmProtocol, stream => behave(new RawChannel(stream)))
  return {
    libp2p,
    id: libp2p.peerId.toString(),
    hint: () => ({ peer: libp2p.peerId, addresses: libp2p.getMultiaddrs() }),
    async dial({ addresses }) {
      return new RawChannel(await libp2p.dialProtocol([...addresses], swarmProtocol))
    },
    [Symbol.asyncDispose]: async () => libp2p.stop(),
  }
}
