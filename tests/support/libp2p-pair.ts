/** Real libp2p nodes on loopback, with the transports, crypto and limits that the host of src/net uses. */

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Libp2p, PrivateKey } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { openPlane } from '../../src/bulk/plane.ts'
import { systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { openBandwidth } from '../../src/net/upload/bandwidth.ts'
import { hostLimits } from '../../src/net/host/host.ts'
import { openLanePort } from '../../src/net/swarm/lane-port.ts'
import { openNoiseCrypto } from '../../src/net/host/noise-crypto.ts'
import type { PeerHint } from '../../src/net/addresses.ts'
import { openSwarm, type Swarm, type SwarmDeps } from '../../src/net/swarm/swarm.ts'
import type { BlockReader } from '../../src/store/store.ts'
import { MemoryReader } from './memory-reader.ts'

export async function openLibp2p(listen = ['/ip4/127.0.0.1/tcp/0']): Promise<Libp2p> {
  return createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise({ crypto: openNoiseCrypto() })],
    streamMuxers: [
      yamux({
        maxInboundStreams: hostLimits.streamsInMax,
        maxOutboundStreams: hostLimits.streamsOutMax,
        streamOptions: { maxReadBufferLength: hostLimits.streamBufferBytesMax },
      }),
    ],
    services: { identify: identify() },
    // Everybody comes from one address here.
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
    connectionMonitor: { enabled: false },
  })
}

/** One node that speaks the swarm protocol; disposing it ends both. */
export interface SwarmNode extends AsyncDisposable {
  readonly libp2p: Libp2p
  readonly swarm: Swarm
  readonly id: string
  /** How others reach it. */
  hint(): PeerHint
}

export interface SwarmNodeOptions extends Partial<Omit<SwarmDeps, 'libp2p' | 'reader'>> {
  readonly reader?: BlockReader
  readonly peersMax?: number
  readonly agent?: string
  readonly listen?: string[]
  /** Takes and dials lanes, as a node does. */
  readonly hasLanes?: boolean
}

export async function openSwarmNode(options: SwarmNodeOptions = {}): Promise<SwarmNode> {
  await using stack = new AsyncDisposableStack()
  const { reader = new MemoryReader(), agent = 'commonweight/test', peersMax, ...deps } = options
  const libp2p = await openLibp2p(options.listen)
  stack.defer(() => libp2p.stop())
  const lanes = options.hasLanes === true ? await openLanes(libp2p, stack) : {}
  const swarm = stack.use(
    await openSwarm(
      {
        libp2p,
        reader,
        bandwidth: openBandwidth(systemClock),
        clock: systemClock,
        log: silentLog,
        shareable: addresses => addresses,
        ...lanes,
        ...deps,
      },
      peersMax === undefined ? { agent } : { agent, peersMax },
    ),
  )
  const owned = stack.move()
  return {
    libp2p,
    swarm,
    id: libp2p.peerId.toString(),
    hint: () => ({ peer: libp2p.peerId, addresses: libp2p.getMultiaddrs() }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function openLanes(
  libp2p: Libp2p,
  stack: AsyncDisposableStack,
): Promise<Required<Pick<SwarmDeps, 'lanePort' | 'plane'>>> {
  const parts = { libp2p, key: keyOf(libp2p), clock: systemClock, log: silentLog }
  const lanePort = stack.use(await openLanePort(parts))
  const plane = stack.use(openPlane({ identity: lanePort.identity, log: silentLog }))
  return { lanePort, plane }
}

/** The private key, which libp2p gives to its own parts only. */
export function keyOf(libp2p: Libp2p): PrivateKey {
  return (libp2p as unknown as { components: { privateKey: PrivateKey } }).components.privateKey
}

/** Polls until `isTrue`, for at most `ms`, which a busy machine may need; the last resort where nothing tells when. */
export async function until(isTrue: () => boolean, ms = 40_000): Promise<void> {
  const endMs = performance.now() + ms
  while (!isTrue()) {
    if (performance.now() > endMs) throw new Error(`not within ${ms} ms: ${isTrue.toString()}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
