/**
 * Lets TLS in on the TCP ports of libp2p, and nobody else but libp2p: the first bytes of a connection
 * tell who gets it. What is neither never reaches code that would parse it. The only file that reaches
 * into libp2p's listeners; tests/adversarial/port-share.test.ts fails when an upgrade changes them.
 */

import { Server, type Socket } from 'node:net'
import type { Libp2p } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { second } from '../core/units.ts'
import { sourceOf } from './connection-caps.ts'

/** The type of a TLS record with a ClientHello. */
const tlsHandshake = 0x16
/** How everybody who dials libp2p begins, whatever follows (multistream-select). */
const libp2pHeader = Buffer.from('\x13/multistream/1.0.0\n')
/** A dialler speaks at once in either protocol; as long as libp2p waits for the rest. */
const firstBytesMs = 10 * second
/**
 * Connections whose first bytes are not all here yet. When there are more, the oldest goes and not the
 * newest: whoever speaks at once gets in, however many others say nothing.
 */
const waitingPerAddressMax = 64
const waitingMax = 512

export interface SharedPorts extends Disposable {
  /** TCP listeners of libp2p that are shared. */
  readonly listeners: number
  /** Connections that have not said yet what they are. */
  readonly waiting: number
}

export interface ShareOptions {
  readonly firstBytesMs?: number
}

type OnSocket = (socket: Socket) => void

/**
 * From now on, connections that begin with TLS go to `onTls`, their first bytes still to be read,
 * those that begin as libp2p does go to libp2p as before, and all others are closed. Call it when libp2p
 * listens, and dispose it before libp2p stops. TypeError when the listeners are not as they were when this
 * was written.
 */
export function shareListeners(
  libp2p: Libp2p,
  onTls: OnSocket,
  options: ShareOptions = {},
): SharedPorts {
  const waiting = new WaitingSockets(options.firstBytesMs ?? firstBytesMs)
  const shared = tcpServers(libp2p).map(({ server, onSocket }) => {
    const take = (socket: Socket): void => waiting.take(socket, { onTls, onLibp2p: onSocket })
    return { server, onSocket, take }
  })
  for (const { server, onSocket, take } of shared) {
    server.off('connection', onSocket).on('connection', take)
  }
  return {
    listeners: shared.length,
    get waiting() {
      return waiting.size
    },
    [Symbol.dispose]() {
      for (const { server, onSocket, take } of shared) {
        server.off('connection', take).on('connection', onSocket)
      }
      waiting.clear()
    },
  }
}

/** Of libp2p's and its TCP transport's classes, what is used here. */
interface Listener {
  readonly server?: unknown
  getAddrs(): Multiaddr[]
}
interface Inside {
  readonly components?: { readonly transportManager?: { getListeners?(): Listener[] } }
}

function tcpServers(libp2p: Libp2p): { server: Server; onSocket: OnSocket }[] {
  const listeners = (libp2p as Inside).components?.transportManager?.getListeners?.()
  if (listeners === undefined) throw new TypeError('libp2p has no transport manager any more')
  return listeners.filter(isTcp).map(({ server }) => {
    if (!(server instanceof Server)) throw new TypeError('the listener has no net.Server any more')
    const [onSocket, ...others] = server.listeners('connection')
    if (onSocket === undefined || others.length > 0) {
      throw new TypeError(`${others.length + 1} take connections of the listener, not one`)
    }
    return { server, onSocket: onSocket as OnSocket }
  })
}

/** WebSocket listeners look into connections themselves, and relayed ones have none of their own. */
function isTcp(listener: Listener): boolean {
  return listener.getAddrs().some(address => {
    const [host, transport, ...more] = address.getComponents()
    const isIp = host?.name === 'ip4' || host?.name === 'ip6'
    return isIp && transport?.name === 'tcp' && more.every(({ name }) => name === 'p2p')
  })
}

interface Takers {
  readonly onTls: OnSocket
  readonly onLibp2p: OnSocket
}

class WaitingSockets {
  readonly #firstBytesMs: number
  /** In the order they came. */
  readonly #sockets = new Map<Socket, string>()
  readonly #bySource = new Map<string, Set<Socket>>()

  constructor(waitMs: number) {
    this.#firstBytesMs = waitMs
  }

  get size(): number {
    return this.#sockets.size
  }

  take(socket: Socket, takers: Takers): void {
    // It ends in `close`, which is heard below.
    socket.on('error', ignore)
    const { remoteAddress } = socket
    if (remoteAddress === undefined) {
      socket.destroy()
      return
    }
    this.#add(socket, sourceOf(remoteAddress))
    const first: Uint8Array[] = []
    // Not the socket's own timeout, which each byte would put off.
    const timer = setTimeout(() => socket.destroy(), this.#firstBytesMs)
    const onReadable = (): void => {
      const taker = readFirst(socket, first, takers)
      if (taker === undefined) return
      onGone()
      socket.off('readable', onReadable).off('close', onGone)
      handTo(taker, socket)
    }
    const onGone = (): void => {
      clearTimeout(timer)
      this.#delete(socket)
    }
    socket.once('close', onGone).on('readable', onReadable)
  }

  clear(): void {
    for (const socket of this.#sockets.keys()) socket.destroy()
  }

  #add(socket: Socket, source: string): void {
    this.#sockets.set(socket, source)
    const same = this.#bySource.get(source) ?? new Set()
    this.#bySource.set(source, same.add(socket))
    if (same.size > waitingPerAddressMax) this.#dropOldest(same)
    if (this.#sockets.size > waitingMax) this.#dropOldest(this.#sockets.keys())
  }

  #dropOldest(sockets: Iterable<Socket>): void {
    for (const socket of sockets) {
      this.#delete(socket)
      socket.destroy()
      return
    }
  }

  #delete(socket: Socket): void {
    const source = this.#sockets.get(socket)
    if (source === undefined) return
    this.#sockets.delete(socket)
    const same = this.#bySource.get(source)
    same?.delete(socket)
    if (same?.size === 0) this.#bySource.delete(source)
  }
}

/** Who gets the socket, with all that was read put back; undefined as long as more bytes must tell. */
function readFirst(
  socket: Socket,
  first: Uint8Array[],
  { onTls, onLibp2p }: Takers,
): OnSocket | undefined {
  const missing = libp2pHeader.length - Buffer.concat(first).length
  const more = socket.read(Math.min(socket.readableLength, missing)) as Uint8Array | null
  // It ended.
  if (more === null) return close
  first.push(more)
  const bytes = Buffer.concat(first)
  const isTls = bytes[0] === tlsHandshake
  if (!isTls && !libp2pHeader.subarray(0, bytes.length).equals(bytes)) return close
  if (!isTls && bytes.length < libp2pHeader.length) return undefined
  socket.unshift(bytes)
  return isTls ? onTls : onLibp2p
}

function handTo(taker: OnSocket, socket: Socket): void {
  try {
    taker(socket)
  } catch {
    // libp2p throws when it stopped listening in the meantime.
    socket.destroy()
  }
}

function close(socket: Socket): void {
  socket.destroy()
}

function ignore(): void {}
