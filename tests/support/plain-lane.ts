/**
 * Lanes over bare TCP, for tests of what runs over them: the dialling end as a FrameTransport, and a
 * peer that serves chunks by a script.
 */

import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { UnavailableError } from '../../src/core/errors.ts'
import {
  encodeFrame,
  encodeHeader,
  FrameDecoder,
  type FrameReceiver,
  frameTypes,
} from '../../src/wire/frames.ts'
import {
  decodeChunkAsk,
  encodeHello,
  encodeReason,
  type RefusalCode,
  refusalCodes,
  revision,
} from '../../src/wire/messages.ts'
import type { FrameTransport } from '../../src/wire/transport.ts'

export async function dialPlain(
  { host, port }: { readonly host: string; readonly port: number },
  { signal }: { readonly signal: AbortSignal },
): Promise<FrameTransport> {
  const socket = connect({ host, port })
  socket.on('error', () => undefined)
  await once(socket, 'connect', { signal })
  return new PlainTransport(socket)
}

class PlainTransport implements FrameTransport {
  readonly #socket: Socket
  readonly #closing = new AbortController()
  bytesReceived = 0
  bytesSent = 0

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('close', () => this.abort(new UnavailableError('the socket closed')))
  }

  get closed(): AbortSignal {
    return this.#closing.signal
  }

  start(receiver: FrameReceiver): void {
    const decoder = new FrameDecoder(receiver)
    this.#socket.on('data', bytes => {
      if (this.closed.aborted) return
      this.bytesReceived += bytes.length
      try {
        decoder.push(bytes)
      } catch (error) {
        decoder.stop()
        receiver.failed(error as Error)
      }
    })
  }

  send(...parts: Uint8Array[]): boolean {
    if (this.closed.aborted) return false
    for (const part of parts) {
      this.bytesSent += part.length
      this.#socket.write(part)
    }
    return true
  }

  async drained(): Promise<void> {
    this.closed.throwIfAborted()
  }

  async close(reason: Error): Promise<void> {
    if (this.closed.aborted) return
    this.#closing.abort(reason)
    this.#socket.end()
  }

  abort(reason: Error): void {
    if (this.closed.aborted) return
    this.#closing.abort(reason)
    this.#socket.destroy()
  }
}

/** What a scripted peer does with a request: bytes, a refusal, or nothing at all. */
export type LaneAnswer = Uint8Array | RefusalCode | undefined

export interface LanePeer extends AsyncDisposable {
  readonly host: string
  readonly port: number
  readonly lanes: number
  /** Ids that were cancelled. */
  readonly cancelled: number[]
  /** Cuts every connection. */
  cut(): void
}

/** `answer` may return a promise to make the lane wait. */
export async function openLanePeer(
  answer: (index: number) => LaneAnswer | Promise<LaneAnswer>,
): Promise<LanePeer> {
  const sockets = new Set<Socket>()
  const cancelled: number[] = []
  const server: Server = createServer(socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    serve(socket, { answer, cancelled })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    host: '127.0.0.1',
    port,
    cancelled,
    get lanes() {
      return sockets.size
    },
    cut,
    async [Symbol.asyncDispose]() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}

function serve(
  socket: Socket,
  {
    answer,
    cancelled,
  }: { answer: (index: number) => LaneAnswer | Promise<LaneAnswer>; cancelled: number[] },
): void {
  const hello = { revision, requestsInFlightMax: 64, watchesMax: 0, agent: 'test', features: [] }
  socket.write(encodeFrame(frameTypes.hello, 0, encodeHello(hello)))
  const reply = async (id: number, index: number): Promise<void> => {
    const bytes = await answer(index)
    if (bytes instanceof Uint8Array) {
      socket.write(encodeHeader({ length: bytes.length, type: frameTypes.data, flags: 0, id }))
      socket.write(bytes)
    } else if (bytes !== undefined) {
      socket.write(encodeFrame(frameTypes.refusal, id, encodeReason({ code: bytes, text: '' })))
    }
  }
  const decoder = new FrameDecoder({
    place: ({ length }) => new Uint8Array(length),
    frame({ type, id }, payload = new Uint8Array(0)) {
      if (type === frameTypes.getChunk) void reply(id, decodeChunkAsk(payload).index)
      if (type !== frameTypes.cancel) return
      cancelled.push(id)
      const text = encodeReason({ code: refusalCodes.cancelled, text: '' })
      socket.write(encodeFrame(frameTypes.refusal, id, text))
    },
    failed: () => socket.destroy(),
  })
  socket.on('data', bytes => decoder.push(bytes))
}
