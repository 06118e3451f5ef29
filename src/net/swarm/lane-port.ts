/**
 * What lanes need of the host: a certificate for this run of the process, and the TCP ports of libp2p
 * shared with those who dial lanes to us. Without lanes the ports are guarded all the same.
 */

import type { Socket } from 'node:net'
import type { Libp2p, PrivateKey } from '@libp2p/interface'
import { type LaneIdentity, makeLaneIdentity } from '../../bulk/certificate.ts'
import { type LaneAddress, openLaneServer } from '../../bulk/lane.ts'
import { type SharedPorts, shareListeners } from '../../bulk/port-share.ts'
import type { Clock } from '../../core/clock.ts'
import { messageOf, UnavailableError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { laneFeatures } from '../../wire/messages.ts'
import type { FrameTransport } from '../../wire/transport.ts'

/** A lane of a peer that is who it says; must call `start` at once. */
export type TakeLane = (peer: string, transport: FrameTransport, remote: LaneAddress) => void

export interface LanePort extends Disposable {
  readonly identity: LaneIdentity
  /** Peers can dial lanes to some port of ours, as far as we can tell. */
  readonly isOpen: boolean
  /** What the hello says of it. */
  readonly features: readonly string[]
  /** Who gets the lanes from now on; until then they are closed. */
  onLane(take: TakeLane): void
}

export interface LanePortDeps {
  readonly libp2p: Libp2p
  readonly key: PrivateKey
  readonly clock: Clock
  readonly log: Logger
}

/** Of a host that listens. Dispose it before the host, which else waits for the sockets. */
export async function openLanePort({ libp2p, key, clock, log }: LanePortDeps): Promise<LanePort> {
  using stack = new DisposableStack()
  const identity = await makeLaneIdentity(key)
  let take: TakeLane = (_peer, transport) => {
    transport.abort(new UnavailableError('this node is starting'))
  }
  const server = stack.use(
    openLaneServer({
      identity,
      clock,
      log,
      onLane: (peer, transport, remote) => take(peer, transport, remote),
    }),
  )
  const shared = stack.use(sharePorts({ libp2p, log }, socket => server.accept(socket)))
  const listeners = shared?.listeners ?? 0
  const owned = stack.move()
  return {
    identity,
    isOpen: listeners > 0,
    features: listeners > 0 ? [laneFeatures.lane, laneFeatures.laneDial] : [laneFeatures.laneDial],
    onLane(taker) {
      take = taker
    },
    [Symbol.dispose]: () => owned.dispose(),
  }
}

/** Of a host that listens and takes no lanes: its TCP ports take connections of libp2p and nothing else. */
export function guardPorts(deps: Pick<LanePortDeps, 'libp2p' | 'log'>): Disposable {
  using stack = new DisposableStack()
  stack.use(sharePorts(deps, socket => socket.destroy()))
  return stack.move()
}

function sharePorts(
  { libp2p, log }: Pick<LanePortDeps, 'libp2p' | 'log'>,
  onTls: (socket: Socket) => void,
): SharedPorts | undefined {
  try {
    return shareListeners(libp2p, onTls)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    log.error('the ports are not guarded and take no lanes: libp2p changed', {
      error: messageOf(error),
    })
    return undefined
  }
}
