/**
 * A whole node that lies on purpose: it seeds a folder, and flips one bit in every so-manieth chunk
 * that it sends. All else is the real thing: store, host, swarm, lane.
 *
 *   node tests/bench/lying-peer.ts --home DIR --seed DIR [--every 100]
 *
 * `--every 0` never lies: the control. Sends `{ address, link }` to its parent when it is ready.
 */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { homePaths } from '../../src/api/home.ts'
import { systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { startFlags } from '../../src/core/v8-flags.ts'
import { openHashPool } from '../../src/ingest/hash-file.ts'
import { openNet, type NetOptions } from '../../src/net/net.ts'
import { seed } from '../../src/ops/seed.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { BlockReader, Store } from '../../src/store/store.ts'

/** What the network gets to read: the store, but for the lies. */
function lyingReader(store: Store, every: number): BlockReader {
  return {
    manifestBlock: manifest => store.manifestBlock(manifest),
    chunkTable: root => store.chunkTable(root),
    held: root => store.held(root),
    recheck: () => store.recheck(),
    onHeldChange: listener => store.onHeldChange(listener),
    async readChunk(root, index, options) {
      const bytes = await store.readChunk(root, index, options)
      const middle = bytes.length >>> 1
      if (every > 0 && index % every === 0) bytes[middle] = (bytes[middle] ?? 0) ^ 1
      return bytes
    },
  }
}

async function serve(home: string, folder: string, every: number): Promise<void> {
  await mkdir(home, { recursive: true, mode: 0o700 })
  const paths = homePaths(home)
  const services = { clock: systemClock, log: silentLog }
  const pool = openHashPool()
  const store = await openStore(
    { ...services, wholeSha256: (place, signal) => pool.sha256(place, signal && { signal }) },
    {
      index: paths.index,
      state: paths.state,
      models: paths.models,
      reserveBytes: 0,
      reserveFraction: 0,
    },
  )
  const options: NetOptions = {
    listen: ['/ip4/127.0.0.1/tcp/0'],
    announce: [],
    bootstrap: [],
    network: 'auto',
    mdns: false,
    lane: true,
    relay: false,
    agent: 'commonweight/lying',
  }
  const reader = lyingReader(store, every)
  const net = await openNet(
    { reader, providedKeys: () => store.providedKeys(), ...services },
    options,
    { key: paths.key, database: paths.network },
  )
  const { link } = await seed(
    { store, net, pool, ...services, home, modelsFolder: paths.models },
    { kind: 'seed', paths: [folder] },
    { signal: new AbortController().signal, onEvent: () => undefined },
  )
  process.send?.({ address: net.addresses()[0], link })
  // Whoever started it is gone.
  process.on('disconnect', () => process.exit())
}

export interface LyingPeer extends AsyncDisposable {
  readonly address: string
  readonly link: string
}

export async function startLyingPeer(
  home: string,
  folder: string,
  every: number,
): Promise<LyingPeer> {
  const args = ['--home', home, '--seed', folder, '--every', String(every)]
  const child = fork(import.meta.filename, args, { execArgv: [...startFlags] })
  const gone = once(child, 'exit')
  const [ready] = (await once(child, 'message')) as [{ address: string; link: string }]
  return {
    ...ready,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      home: { type: 'string', default: '' },
      seed: { type: 'string', default: '' },
      every: { type: 'string', default: '100' },
    },
  })
  await serve(values.home, values.seed, Number(values.every))
}
