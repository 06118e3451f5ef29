/**
 * One seeder process to one leecher process over loopback: chunks of a file in the page cache through
 * the swarm protocol on a libp2p stream, each verified, and with --write put into a sparse file.
 *
 *   node tests/bench/stream.ts [--mib 1024] [--in-flight 16] [--write] [--flags none|runtime|argv]
 *
 * argv wants the leecher's flags on its own command line too; the daemon is started with them.
 */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { multiaddr } from '@multiformats/multiaddr'
import { mapLimit } from '../../src/core/async.ts'
import { Bitfield } from '../../src/core/bitfield.ts'
import { sha256 } from '../../src/core/digest.ts'
import { NotFoundError } from '../../src/core/errors.ts'
import { GiB, KiB, MiB, second } from '../../src/core/units.ts'
import { startFlags, tuneForBulkBytes } from '../../src/core/v8-flags.ts'
import { ChunkTable } from '../../src/dag/chunk-table.ts'
import { rootOf } from '../../src/dag/unixfs.ts'
import { verifyDigest } from '../../src/dag/verify.ts'
import type { BlockReader } from '../../src/store/store.ts'
import { openSwarmNode } from '../support/libp2p-pair.ts'
import { peerOf } from '../../src/net/addresses.ts'

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    'in-flight': { type: 'string', default: '16' },
    write: { type: 'boolean', default: false },
    flags: { type: 'string', default: 'argv' },
    seed: { type: 'string' },
  },
})
if (values.flags === 'runtime') tuneForBulkBytes([])

interface Ready {
  readonly address: string
  readonly table: string
}

/** CPU seconds, user and system, of this process. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

async function seed(path: string): Promise<void> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  const chunk = Buffer.alloc(MiB)
  const refs: { digest: Uint8Array; length: number }[] = []
  for (let offset = 0; offset < size; offset += MiB) {
    const { bytesRead } = await file.read(chunk, 0, MiB, offset)
    refs.push({ digest: sha256(chunk.subarray(0, bytesRead)), length: bytesRead })
  }
  const table = ChunkTable.fromRefs(refs)
  const held = Bitfield.full(table.count)
  const reader: BlockReader = {
    manifestBlock: () => undefined,
    chunkTable: () => table,
    held: () => held,
    recheck: () => undefined,
    onHeldChange: () => () => undefined,
    async readChunk(_, index) {
      if (!held.has(index)) throw new NotFoundError('no such chunk')
      const { offset, length } = table.ref(index)
      const bytes = Buffer.allocUnsafeSlow(length)
      await file.read(bytes, 0, length, offset)
      return bytes
    },
  }
  await using node = await openSwarmNode({ reader })
  const [address] = node.libp2p.getMultiaddrs()
  const ready: Ready = {
    address: String(address),
    table: Buffer.from(table.bytes).toString('base64'),
  }
  const before = cpuSeconds()
  process.send?.(ready)
  await once(process, 'message')
  process.send?.({ cpu: cpuSeconds() - before, rss: process.resourceUsage().maxRSS * KiB })
}

async function leech(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cw-bench-'))
  const path = join(folder, 'file')
  const size = Number(values.mib) * MiB
  await makeFile(path, size)
  const seeder = fork(import.meta.filename, ['--seed', path, '--flags', values.flags], {
    execArgv: values.flags === 'argv' ? [...startFlags] : [],
  })
  try {
    const [ready] = (await once(seeder, 'message')) as [Ready]
    const table = new ChunkTable(Buffer.from(ready.table, 'base64'))
    const address = multiaddr(ready.address)
    const peer = peerOf(address)
    if (peer === undefined) throw new TypeError('the seeder has no peer id')
    await using node = await openSwarmNode()
    const { signal } = new AbortController()
    const source = await node.swarm.connect({ peer, addresses: [address] }, { signal })
    await using target = await open(join(folder, 'copy'), 'w')
    const root = rootOf(table)
    // One write at a time: parallel ones to one file cost CPU and gain nothing.
    let written: Promise<unknown> = Promise.resolve()
    const before = cpuSeconds()
    const startMs = performance.now()
    const work = async (index: number): Promise<void> => {
      const { digest, offset, length } = table.ref(index)
      const { bytes } = verifyDigest(
        digest,
        await source.fetchChunk({ root, index, offset, length }, { signal }),
      )
      if (!values.write) return
      written = written.then(() => target.write(bytes, 0, length, offset))
      await written
    }
    const indexes = Array.from({ length: table.count }, (_, index) => index)
    for await (const _ of mapLimit(indexes, Number(values['in-flight']), work));
    const seconds = (performance.now() - startMs) / second
    const cpu = cpuSeconds() - before
    seeder.send('stop')
    const [theirs] = (await once(seeder, 'message')) as [{ cpu: number; rss: number }]
    const gib = size / GiB
    // oxlint-disable-next-line no-console -- the result of this script
    console.log(
      JSON.stringify({
        flags: values.flags,
        write: values.write,
        gbPerSecond: round(size / 1e9 / seconds),
        leecherCpuPerGib: round(cpu / gib),
        seederCpuPerGib: round(theirs.cpu / gib),
        leecherRssMib: Math.round((process.resourceUsage().maxRSS * KiB) / MiB),
        seederRssMib: Math.round(theirs.rss / MiB),
      }),
    )
  } finally {
    seeder.kill()
    await rm(folder, { recursive: true })
  }
}

async function makeFile(path: string, size: number): Promise<void> {
  await using file = await open(path, 'w')
  const bytes = Buffer.alloc(MiB)
  for (let offset = 0; offset < size; offset += MiB) {
    // Different chunks, cheaply: what they hold does not matter to anything here.
    bytes.writeUInt32LE(offset / MiB)
    await file.write(bytes, 0, Math.min(MiB, size - offset), offset)
  }
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000
}

await (values.seed === undefined ? leech() : seed(values.seed))
