/**
 * A long or thin line between processes of one machine: a TCP proxy of its own process that holds
 * every byte back for half the round trip and lets so many bytes a second through, shared by all its
 * connections. Needs no rights, unlike tc and network namespaces.
 *
 *   node tests/bench/delay-proxy.ts --target PORT [--target PORT...] [--round-trip-ms 50] [--rate BYTES]
 *
 * Prints the ports it listens on, one for each target, as a line of JSON. The rate holds for what
 * comes from the targets; the other way only requests travel.
 */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { KiB, MiB, second } from '../../src/core/units.ts'

/** In flight on a line without a rate: 50 ms at more than a loopback's speed. */
const queueBytesMax = 64 * MiB
/** In flight on a thin line, beyond what its delay holds: as a good router's queue. */
const queueSeconds = 0.05

/** Whom bytes wait for when the line is thin. Shared by all who send over it. */
class Line {
  readonly #bytesPerMs: number
  #freeAtMs = 0

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / second
  }

  /** When the last of so many bytes has left, if they join the queue now. */
  leaveAt(bytes: number): number {
    this.#freeAtMs = Math.max(this.#freeAtMs, performance.now()) + bytes / this.#bytesPerMs
    return this.#freeAtMs
  }
}

interface Direction {
  readonly delayMs: number
  readonly line: Line | undefined
  readonly queueBytesMax: number
}

function forward(from: Socket, to: Socket, { delayMs, line, queueBytesMax: max }: Direction): void {
  const queue: { readonly bytes: Buffer; readonly dueMs: number }[] = []
  let queued = 0
  let isEnded = false
  let timer: NodeJS.Timeout | undefined
  const send = (): void => {
    timer = undefined
    for (let head = queue[0]; head !== undefined; head = queue[0]) {
      const waitMs = head.dueMs - performance.now()
      if (waitMs > 0) {
        timer = setTimeout(send, waitMs)
        return
      }
      queue.shift()
      queued -= head.bytes.length
      if (queued < max && from.isPaused()) from.resume()
      if (!to.write(head.bytes)) {
        to.once('drain', send)
        return
      }
    }
    if (isEnded) to.end()
  }
  const wake = (): void => {
    if (timer === undefined && !to.writableNeedDrain) send()
  }
  from.on('data', (bytes: Buffer) => {
    const leftMs = line?.leaveAt(bytes.length) ?? performance.now()
    queue.push({ bytes, dueMs: leftMs + delayMs })
    queued += bytes.length
    if (queued >= max) from.pause()
    wake()
  })
  from.on('end', () => {
    isEnded = true
    wake()
  })
  from.on('error', () => to.destroy())
  from.on('close', () => {
    if (!isEnded) to.destroy()
  })
}

async function serve(): Promise<void> {
  const { values } = parseArgs({
    options: {
      target: { type: 'string', multiple: true, default: [] },
      'round-trip-ms': { type: 'string', default: '0' },
      rate: { type: 'string' },
    },
  })
  const delayMs = Number(values['round-trip-ms']) / 2
  const rate = values.rate === undefined ? undefined : Number(values.rate)
  const up: Direction = { delayMs, line: undefined, queueBytesMax }
  const down: Direction =
    rate === undefined
      ? up
      : {
          delayMs,
          line: new Line(rate),
          queueBytesMax: Math.max(256 * KiB, rate * (delayMs / second + queueSeconds)),
        }
  const ports: number[] = []
  for (const target of values.target) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, client => {
      const socket = connect({ port: Number(target), host: '127.0.0.1', allowHalfOpen: true })
      socket.setNoDelay(true)
      forward(client, socket, up)
      forward(socket, client, down)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    ports.push((server.address() as AddressInfo).port)
  }
  process.send?.({ ports })
  process.on('disconnect', () => process.exit())
}

export interface DelayProxy extends AsyncDisposable {
  /** One for each target, in their order. */
  readonly ports: readonly number[]
}

export async function startDelayProxy(
  targets: readonly number[],
  { roundTripMs = 0, rate }: { roundTripMs?: number; rate?: number },
): Promise<DelayProxy> {
  const args = targets.flatMap(port => ['--target', String(port)])
  args.push('--round-trip-ms', String(roundTripMs))
  if (rate !== undefined) args.push('--rate', String(rate))
  const child = fork(import.meta.filename, args)
  const gone = once(child, 'exit')
  const [{ ports }] = (await once(child, 'message')) as [{ ports: number[] }]
  return {
    ports,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

if (import.meta.main) await serve()
