/**
 * A ring of bytes between the thread that reads a file and the thread that hashes its chunks. The
 * disk is read once, nothing is copied, and a slow consumer holds the producer back: 16 MiB of memory
 * whatever the size of the file.
 */

import { MiB } from '../core/units.ts'

/** The unit in which the producer hands over bytes; also the largest chunk, so that one fits. */
export const slotBytes = MiB

/** Enough for one thread to be descheduled for some milliseconds while the other goes on. */
const slotCount = 16
const ringBytes = slotCount * slotBytes

/** Cells of the control array. Counters are of slots: 16 TiB of them fit 31 bits. */
const cells = {
  /** Changes with everything that happens: the one cell that is waited on, so no wake-up is lost. */
  tick: 0,
  /** Whole slots produced so far. */
  written: 1,
  /** Whole slots the consumer has let go of. */
  released: 2,
  /** 1 when the producer is done; `tail` then holds the bytes after the last whole slot. */
  ended: 3,
  tail: 4,
  /** 1 when either side, or the main thread, gave up. */
  stopped: 5,
} as const

/** More slots than any file has. */
const everything = 0x7fff_ffff

/** Both ends share this; it crosses threads as it is. */
export interface RingMemory {
  readonly bytes: SharedArrayBuffer
  readonly control: SharedArrayBuffer
}

export function allocateRing(): RingMemory {
  return {
    bytes: new SharedArrayBuffer(ringBytes),
    control: new SharedArrayBuffer(Object.keys(cells).length * Int32Array.BYTES_PER_ELEMENT),
  }
}

/** Makes a ring whose two threads have left ready for the next file. */
export function resetRing(memory: RingMemory): void {
  new Int32Array(memory.control).fill(0)
}

/** Wakes both ends; their next wait throws RingStopped. Callable from any thread. */
export function stopRing(memory: RingMemory): void {
  const control = new Int32Array(memory.control)
  Atomics.store(control, cells.stopped, 1)
  announce(control)
}

/** Thrown out of either end of a ring that was stopped: whoever stopped it knows why. */
export class RingStopped extends Error {
  override readonly name = 'RingStopped'
}

function announce(control: Int32Array): void {
  Atomics.add(control, cells.tick, 1)
  Atomics.notify(control, cells.tick)
}

/** Blocks this thread until `isReady`, which may look at any cell. */
function waitUntil(control: Int32Array, isReady: () => boolean): void {
  for (;;) {
    // The tick is read before the condition: a change in between makes the wait return at once.
    const tick = Atomics.load(control, cells.tick)
    if (Atomics.load(control, cells.stopped) === 1) throw new RingStopped()
    if (isReady()) return
    Atomics.wait(control, cells.tick, tick)
  }
}

export class RingProducer {
  readonly #control: Int32Array
  readonly #bytes: Uint8Array
  #written = 0

  constructor(memory: RingMemory) {
    this.#control = new Int32Array(memory.control)
    this.#bytes = new Uint8Array(memory.bytes)
  }

  /** The slot to fill next, once it is free. It stays readable here until the next call. */
  nextSlot(): Uint8Array {
    const control = this.#control
    waitUntil(control, () => this.#written - Atomics.load(control, cells.released) < slotCount)
    const start = (this.#written % slotCount) * slotBytes
    return this.#bytes.subarray(start, start + slotBytes)
  }

  /** Hands over the slot; fewer than slotBytes only for the last one. */
  publish(length: number): void {
    if (length === slotBytes) {
      this.#written += 1
      Atomics.store(this.#control, cells.written, this.#written)
    } else {
      Atomics.store(this.#control, cells.tail, length)
    }
    announce(this.#control)
  }

  /** No more slots follow. */
  end(): void {
    Atomics.store(this.#control, cells.ended, 1)
    announce(this.#control)
  }
}

export class RingConsumer {
  readonly #control: Int32Array
  readonly #bytes: Uint8Array
  #position = 0

  constructor(memory: RingMemory) {
    this.#control = new Int32Array(memory.control)
    this.#bytes = new Uint8Array(memory.bytes)
  }

  /**
   * The next `length` bytes (at most a slot's) in one or two views, valid until `release`; undefined
   * when the file ends before them.
   */
  read(length: number): readonly Uint8Array[] | undefined {
    const end = this.#position + length
    waitUntil(this.#control, () => this.#available() >= end || this.#isEnded())
    if (this.#available() < end) return undefined
    const start = this.#position % ringBytes
    const first = this.#bytes.subarray(start, Math.min(start + length, ringBytes))
    if (first.length === length) return [first]
    return [first, this.#bytes.subarray(0, length - first.length)]
  }

  /** Lets the producer overwrite the bytes of the last `read`. */
  release(length: number): void {
    this.#position += length
    const slots = Math.floor(this.#position / slotBytes)
    if (slots === Atomics.load(this.#control, cells.released)) return
    Atomics.store(this.#control, cells.released, slots)
    announce(this.#control)
  }

  /** Nothing more is wanted: the producer never waits again. */
  leave(): void {
    Atomics.store(this.#control, cells.released, everything)
    announce(this.#control)
  }

  #isEnded(): boolean {
    return Atomics.load(this.#control, cells.ended) === 1
  }

  #available(): number {
    // `ended` first: what was written before it is then seen too.
    const tail = this.#isEnded() ? Atomics.load(this.#control, cells.tail) : 0
    return Atomics.load(this.#control, cells.written) * slotBytes + tail
  }
}
