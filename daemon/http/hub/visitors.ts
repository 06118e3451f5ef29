/**
 * What each address may take of the gateway when it does not only listen on loopback: connections,
 * requests, files at a time, bytes a second. Programs of this machine are its user, and not limited.
 */

import type { Socket } from 'node:net'
import { isIPv6 } from 'node:net'
import type { Clock } from '../../../src/core/clock.ts'
import { openTokenBuckets, type TokenBuckets } from '../../../src/core/token-buckets.ts'
import { MiB, second } from '../../../src/core/units.ts'

/** aria2 with 16 connections for each of four files, and as many for somebody else behind one address. */
const connectionsPerAddressMax = 128
/** Eight workers of huggingface_hub on a repository of small files: two requests a file. */
const requestsPerSecond = 200
/** A load of transformers asks for some thirty files; a snapshot of ten thousand waits now and then. */
const requestsBurst = 2000
/** Half of all: nobody keeps everybody else out. */
const bodiesPerAddressMax = 64
/** Of all addresses together: the other 32 of `bodiesMax` are for programs of this machine. */
const bodiesOfVisitorsMax = 96
/** The last of those are for who reads few: a machine has an IPv4 address and a /64, and so two names here. */
const bodiesForFew = 16
/** Workers of huggingface_hub: so many files are few. */
const fewBodies = 8
/** Two lines of 1 Gbit/s: one reader does not fill a line of 10. */
const bytesPerSecondMax = 256 * MiB

export interface Visitors {
  /** False when the address has too many: to be closed. */
  connected(socket: Socket): boolean
  /** Seconds until the next request of this address is answered; 0 for now. */
  asked(address: string): number
  /** Undefined when the address reads too many files; else to be disposed when the file is sent. */
  reading(address: string): Reading | undefined
}

export interface Reading extends Disposable {
  /** Resolves when so many bytes more may be sent to the address. */
  allow(bytes: number, signal: AbortSignal): Promise<void>
}

export interface VisitorsDeps {
  readonly clock: Clock
  /** Whose requests are not limited: those of this machine when left out. */
  readonly isOurs?: ((address: string) => boolean) | undefined
}

const unlimited: Reading = { allow: () => Promise.resolve(), [Symbol.dispose]() {} }

export function openVisitors({ clock, isOurs = isLoopback }: VisitorsDeps): Visitors {
  const connections = new Counts()
  const bodies = new Counts()
  const requests = openTokenBuckets(clock, { perSecond: requestsPerSecond, burst: requestsBurst })
  const bytes = openTokenBuckets(clock, { perSecond: bytesPerSecondMax, burst: bytesPerSecondMax })
  return {
    connected(socket) {
      const address = socket.remoteAddress ?? ''
      if (isOurs(address)) return true
      const visitor = visitorOf(address)
      if (!connections.add(visitor, connectionsPerAddressMax)) return false
      socket.once('close', () => connections.remove(visitor))
      return true
    },
    asked(address) {
      if (isOurs(address)) return 0
      const bucket = requests.of(visitorOf(address))
      if (bucket.takeUpTo(1) === 1) return 0
      return Math.max(1, Math.ceil(bucket.waitMs / second))
    },
    reading(address) {
      if (isOurs(address)) return unlimited
      const visitor = visitorOf(address)
      const left = bodiesOfVisitorsMax - bodies.total
      const most = left > bodiesForFew ? bodiesPerAddressMax : fewBodies
      if (left <= 0 || !bodies.add(visitor, most)) return undefined
      return {
        allow: (count, signal) => allow({ bytes, clock, visitor }, count, signal),
        [Symbol.dispose]: () => bodies.remove(visitor),
      }
    },
  }
}

/** How many of each name there are; a name of none is not remembered. */
class Counts {
  readonly #counts = new Map<string, number>()
  #total = 0

  /** Of all names. */
  get total(): number {
    return this.#total
  }

  add(name: string, most: number): boolean {
    const count = this.#counts.get(name) ?? 0
    if (count >= most) return false
    this.#counts.set(name, count + 1)
    this.#total += 1
    return true
  }

  remove(name: string): void {
    const count = this.#counts.get(name) ?? 0
    if (count > 0) this.#total -= 1
    if (count > 1) this.#counts.set(name, count - 1)
    else this.#counts.delete(name)
  }
}

async function allow(
  { bytes, clock, visitor }: { bytes: TokenBuckets; clock: Clock; visitor: string },
  count: number,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const { waitMs } = bytes.of(visitor)
    if (waitMs === 0) break
    await clock.sleep(Math.ceil(waitMs), signal)
  }
  // A piece is not split: what it takes too much, the next one waits for.
  bytes.of(visitor).spend(count)
}

function isLoopback(address: string): boolean {
  const plain = withoutMapping(address)
  return plain === '::1' || plain.startsWith('127.')
}

/** Whoever has one IPv6 address has a /64 of them. */
export function visitorOf(address: string): string {
  const plain = withoutMapping(address)
  if (!isIPv6(plain)) return plain
  const [head = '', tail] = (plain.split('%', 1)[0] ?? '').split('::')
  const first = head === '' ? [] : head.split(':')
  const last = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0')
  const groups = tail === undefined ? first : [...first, ...zeros, ...last]
  return `${groups.slice(0, 4).join(':')}::/64`
}

/** `::ffff:192.168.1.5` is how a socket for both families shows IPv4. */
function withoutMapping(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/iu, '')
}
