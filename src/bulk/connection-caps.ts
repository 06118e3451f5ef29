/**
 * How many connections strangers may have open here and begin in a second: from one address, so that
 * nobody takes what is there for all, and in all. Whoever has an IPv6 address has its whole /64.
 */

import { isIPv6 } from 'node:net'
import type { Clock } from '../core/clock.ts'
import { second } from '../core/units.ts'

export interface CapLimits {
  readonly perAddressMax: number
  readonly totalMax: number
  readonly perAddressPerSecondMax: number
}

export class ConnectionCaps {
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #limits: CapLimits
  readonly #open = new Map<string, number>()
  #total = 0
  /** Of this second: emptied with it, so that it holds no more than came in one. */
  readonly #begun = new Map<string, number>()
  #secondAtMs: number

  constructor(clock: Pick<Clock, 'monotonic'>, limits: CapLimits) {
    this.#clock = clock
    this.#limits = limits
    this.#secondAtMs = clock.monotonic()
  }

  get total(): number {
    return this.#total
  }

  /** Takes a place; returns how to give it back, or undefined when there is none. */
  enter(address: string): (() => void) | undefined {
    const source = sourceOf(address)
    const { perAddressMax, totalMax, perAddressPerSecondMax } = this.#limits
    const open = this.#open.get(source) ?? 0
    const begun = this.#begin(source)
    if (begun > perAddressPerSecondMax || open >= perAddressMax || this.#total >= totalMax) {
      return undefined
    }
    this.#open.set(source, open + 1)
    this.#total += 1
    let isIn = true
    return () => {
      if (!isIn) return
      isIn = false
      this.#leave(source)
    }
  }

  #begin(source: string): number {
    const nowMs = this.#clock.monotonic()
    if (nowMs - this.#secondAtMs >= second) {
      this.#begun.clear()
      this.#secondAtMs = nowMs
    }
    const begun = (this.#begun.get(source) ?? 0) + 1
    this.#begun.set(source, begun)
    return begun
  }

  #leave(source: string): void {
    this.#total -= 1
    const left = (this.#open.get(source) ?? 0) - 1
    if (left > 0) this.#open.set(source, left)
    else this.#open.delete(source)
  }
}

const mappedPrefix = '::ffff:'

/** An IPv4 address as it is, whatever form it came in; the first 64 bits of an IPv6 address. */
export function sourceOf(address: string): string {
  if (!isIPv6(address)) return address
  if (address.startsWith(mappedPrefix) && address.includes('.')) {
    return address.slice(mappedPrefix.length)
  }
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const gap = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
  return `${[...left, ...gap, ...right].slice(0, 4).join(':')}::/64`
}
