/** Keeps this node connected to the peers it was told to join through, for as long as it runs. */

import type { Libp2p, PeerId } from '@libp2p/interface'
import { CODE_P2P, type Multiaddr } from '@multiformats/multiaddr'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { minute, second } from '../../core/units.ts'

const firstRetryMs = second
const lastRetryMs = 5 * minute
const dialTimeoutMs = 15 * second
/** A connection that just ended is not opened again at once: the peer may have had a reason. */
const reconnectMs = 2 * second
/** Above kad-dht's tags for close peers: connections to these are closed last. */
const tag = { name: 'commonweight-bootstrap', value: 100 } as const

export interface Bootstrap extends AsyncDisposable {
  readonly peers: number
}

export function openBootstrap(
  deps: { readonly libp2p: Libp2p; readonly clock: Clock; readonly log: Logger },
  addresses: readonly { readonly peer: PeerId; readonly address: Multiaddr }[],
): Bootstrap {
  const stop = new AbortController()
  const byPeer = Map.groupBy(
    addresses.filter(({ peer }) => !peer.equals(deps.libp2p.peerId)),
    ({ peer }) => peer.toString(),
  )
  const tasks = [...byPeer.values()].map(same =>
    keepConnected(
      deps,
      same.map(({ address }) => address),
      stop.signal,
    ),
  )
  return {
    peers: tasks.length,
    async [Symbol.asyncDispose]() {
      stop.abort()
      await Promise.all(tasks)
    },
  }
}

async function keepConnected(
  { libp2p, clock, log }: { libp2p: Libp2p; clock: Clock; log: Logger },
  addresses: Multiaddr[],
  signal: AbortSignal,
): Promise<void> {
  let waitMs = firstRetryMs
  for (;;) {
    try {
      signal.throwIfAborted()
      const timeout = AbortSignal.timeout(dialTimeoutMs)
      const connection = await libp2p.dial(addresses, {
        signal: AbortSignal.any([signal, timeout]),
      })
      const tags = { [tag.name]: { value: tag.value } }
      await libp2p.peerStore.merge(connection.remotePeer, { multiaddrs: bare(addresses), tags })
      waitMs = firstRetryMs
      await whenGone(libp2p, connection.remotePeer, signal)
      await clock.sleep(reconnectMs, signal)
    } catch (error) {
      if (signal.aborted) return
      log.debug('bootstrap peer not reached', {
        address: addresses.join(' '),
        retryMs: waitMs,
        error: messageOf(error),
      })
      await clock.sleep(waitMs, signal).catch(() => undefined)
      waitMs = Math.min(lastRetryMs, waitMs * 2)
    }
  }
}

/** The peer store names the peer beside its addresses. */
function bare(addresses: readonly Multiaddr[]): Multiaddr[] {
  return addresses.map(address => address.decapsulateCode(CODE_P2P))
}

async function whenGone(libp2p: Libp2p, peer: PeerId, signal: AbortSignal): Promise<void> {
  if (libp2p.getConnections(peer).length === 0) return
  const gone = Promise.withResolvers<void>()
  const onDisconnect = ({ detail }: CustomEvent<PeerId>): void => {
    if (detail.equals(peer)) gone.resolve()
  }
  const onAbort = (): void => gone.resolve()
  libp2p.addEventListener('peer:disconnect', onDisconnect)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await gone.promise
  } finally {
    libp2p.removeEventListener('peer:disconnect', onDisconnect)
    signal.removeEventListener('abort', onAbort)
  }
}
