/**
 * Lanes: TLS 1.3 connections that carry the frames of the swarm protocol and nothing else
 * (docs/spec/lane.md). Both sides show a libp2p certificate, and no byte counts before each has checked
 * who the other is. Dialling works in any thread; the server takes sockets that others accepted.
 */

import type { OnReadOpts, Socket } from 'node:net'
import {
  connect,
  type ConnectionOptions,
  createServer,
  type Server,
  type TLSSocket,
} from 'node:tls'
import { raceSignal } from '../core/async.ts'
import type { Clock } from '../core/clock.ts'
import { messageOf, ProtocolError, UnavailableError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { KiB, minute, second } from '../core/units.ts'
import type { FrameTransport } from '../wire/transport.ts'
import { type LaneIdentity, peerOfCertificate } from './certificate.ts'
import { ConnectionCaps } from './connection-caps.ts'
import { LaneTransport } from './lane-transport.ts'

/** What both sides name in ALPN, so that other protocols can share the port. */
export const laneProtocol = 'cw-bulk/1'

export interface LaneAddress {
  /** An IP address, or a name to look up. */
  readonly host: string
  readonly port: number
}

export interface DialOptions {
  readonly identity: LaneIdentity
  /** Who must answer: the peer id as text. */
  readonly peer: string
  readonly signal: AbortSignal
  /** Reused for every read of this lane, and of no other. */
  readonly readBuffer?: Uint8Array
}

export interface LaneLimits {
  /** Between the first byte and a checked certificate: three round trips of a bad line. */
  readonly handshakeMs: number
  /** Without a byte either way. The dialling side opens another one when it wants something. */
  readonly idleMs: number
  /** A data plane has up to four threads; one address may be many people's. */
  readonly perAddressMax: number
  /** 75 KiB each when idle. */
  readonly totalMax: number
  /** A handshake costs the main thread 2 ms. */
  readonly perAddressPerSecondMax: number
}

export const laneLimits: LaneLimits = {
  handshakeMs: 10 * second,
  idleMs: 5 * minute,
  perAddressMax: 128,
  totalMax: 512,
  perAddressPerSecondMax: 64,
}

/** As large as one read from a socket gets: 16 TLS records. */
const readBufferBytes = 256 * KiB
/** A peer that vanished without a word is noticed by the kernel, when nothing else is being sent. */
const keepAliveMs = 30 * second

const tlsRules: Pick<ConnectionOptions, 'minVersion' | 'rejectUnauthorized' | 'ALPNProtocols'> = {
  minVersion: 'TLSv1.3',
  // Who a libp2p certificate belongs to is ours to check; no authority ever signed one.
  rejectUnauthorized: false,
  ALPNProtocols: [laneProtocol],
}

/**
 * Resolves when TLS, ALPN and the peer id are checked; call `start` in the same turn. UnavailableError
 * when the peer is not there, and the signal's reason.
 */
export async function dialLane(
  { host, port }: LaneAddress,
  { identity, peer, signal, readBuffer = Buffer.allocUnsafeSlow(readBufferBytes) }: DialOptions,
): Promise<FrameTransport> {
  signal.throwIfAborted()
  let transport: LaneTransport | undefined
  const callback = (bytes: number): boolean => {
    transport?.take(readBuffer.subarray(0, bytes))
    return true
  }
  // Documented for tls.connect, and missing in its types.
  const onread: OnReadOpts = { buffer: readBuffer, callback }
  const options: ConnectionOptions & { onread: OnReadOpts } = {
    ...tlsRules,
    ...identity,
    host,
    port,
    // The name of a machine says nothing of who it is, and is not for those on the way to read.
    servername: '',
    onread,
  }
  const socket = connect(options)
  try {
    const late = AbortSignal.timeout(laneLimits.handshakeMs)
    const secured = whenSecure(socket, () => {
      const found = peerOf(socket)
      if (found !== peer) throw new UnavailableError(`another peer answers there: ${found}`)
      keepAlive(socket)
      transport = new LaneTransport(socket)
      return transport
    })
    return await raceSignal(secured, AbortSignal.any([signal, late]))
  } catch (error) {
    socket.on('error', ignore)
    socket.destroy()
    signal.throwIfAborted()
    if (error instanceof UnavailableError) throw error
    throw new UnavailableError(messageOf(error), { cause: error })
  }
}

/** Calls `check` in the turn in which the handshake ends: bytes of the peer may follow at once. */
async function whenSecure<T>(socket: TLSSocket, check: () => T): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const onSecure = (): void => {
    try {
      resolve(check())
    } catch (error) {
      reject(error)
    }
  }
  const onClose = (): void => reject(new UnavailableError('the connection was closed'))
  socket.once('secureConnect', onSecure).once('error', reject).once('close', onClose)
  try {
    return await promise
  } finally {
    socket.off('error', reject).off('close', onClose)
  }
}

function keepAlive(socket: TLSSocket): void {
  socket.setNoDelay(true)
  socket.setKeepAlive(true, keepAliveMs)
}

/** Who is at the other end of a lane whose handshake is done; throws ProtocolError. */
function peerOf(socket: TLSSocket): string {
  if (socket.alpnProtocol !== laneProtocol) throw new ProtocolError('it speaks no lane protocol')
  // A ticket would stand in for the certificate.
  if (socket.isSessionReused()) throw new ProtocolError('it resumes a session')
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) throw new ProtocolError('it shows no certificate')
  return peerOfCertificate(certificate.raw, Date.now())
}

export interface LaneServerDeps {
  readonly identity: LaneIdentity
  readonly clock: Clock
  readonly log: Logger
  /** A lane of a peer that is who it says; must call `start` at once. */
  onLane(peer: string, transport: FrameTransport, remote: LaneAddress): void
}

export interface LaneServer extends Disposable {
  /** Lanes, and those that may become one. */
  readonly connections: number
  /** A connection whose first bytes are TLS, with those bytes still to be read. */
  accept(socket: Socket): void
}

/** Listens nowhere: another part accepts connections and hands over those that begin with TLS. */
export function openLaneServer(deps: LaneServerDeps, limits: Partial<LaneLimits> = {}): LaneServer {
  return new OpenLaneServer(deps, { ...laneLimits, ...limits })
}

class OpenLaneServer implements LaneServer {
  readonly #deps: LaneServerDeps
  readonly #limits: LaneLimits
  readonly #caps: ConnectionCaps
  readonly #tls: Server
  readonly #sockets = new Set<Socket>()
  readonly #lanes = new Set<LaneTransport>()
  readonly #stop = new AbortController()

  constructor(deps: LaneServerDeps, limits: LaneLimits) {
    this.#deps = deps
    this.#limits = limits
    this.#caps = new ConnectionCaps(deps.clock, limits)
    this.#tls = createServer({
      ...tlsRules,
      ...deps.identity,
      requestCert: true,
      handshakeTimeout: limits.handshakeMs,
    })
    this.#tls.on('secureConnection', this.#onSecure)
    this.#tls.on('tlsClientError', this.#onRefused)
    void this.#sweep()
  }

  get connections(): number {
    return this.#sockets.size
  }

  accept(socket: Socket): void {
    // An error ends in `close`, and whoever uses the socket by then hears of it there.
    socket.on('error', ignore)
    const address = socket.remoteAddress
    const leave = address === undefined ? undefined : this.#caps.enter(address)
    if (leave === undefined || this.#stop.signal.aborted) {
      leave?.()
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      leave()
    })
    this.#tls.emit('connection', socket)
  }

  [Symbol.dispose](): void {
    this.#stop.abort()
    const reason = new UnavailableError('this node is stopping')
    for (const lane of this.#lanes) lane.abort(reason)
    for (const socket of this.#sockets) socket.destroy()
  }

  readonly #onSecure = (socket: TLSSocket): void => {
    const { remoteAddress: host = '', remotePort: port = 0 } = socket
    let peer: string
    try {
      peer = peerOf(socket)
    } catch (error) {
      this.#onRefused(error as Error, socket)
      return
    }
    keepAlive(socket)
    const transport = new LaneTransport(socket)
    this.#lanes.add(transport)
    transport.closed.addEventListener('abort', () => this.#lanes.delete(transport), { once: true })
    this.#deps.onLane(peer, transport, { host, port })
    socket.on('data', (bytes: Uint8Array) => transport.take(bytes))
  }

  readonly #onRefused = (error: Error, socket: TLSSocket): void => {
    const { remoteAddress: address } = socket
    this.#deps.log.debug('lane refused', { address, error: error.message })
    socket.on('error', ignore)
    socket.destroy()
  }

  /** Ends lanes on which nothing moves: one timer for all of them. */
  async #sweep(): Promise<void> {
    const { clock } = this.#deps
    const { signal } = this.#stop
    const seen = new WeakMap<LaneTransport, { bytes: number; atMs: number }>()
    const isIdle = (lane: LaneTransport): boolean => {
      const bytes = lane.bytesReceived + lane.bytesSent
      const before = seen.get(lane)
      if (before?.bytes === bytes) return clock.monotonic() - before.atMs >= this.#limits.idleMs
      seen.set(lane, { bytes, atMs: clock.monotonic() })
      return false
    }
    try {
      for (;;) {
        await clock.sleep(this.#limits.idleMs / 4, signal)
        for (const lane of [...this.#lanes].filter(isIdle)) {
          void lane.close(new UnavailableError('the lane was idle'))
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}

function ignore(): void {}
