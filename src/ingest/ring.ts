/**
 * A ring of bytes that two threads share to go through one file: each takes every slot in file
 * order, and whoever lacks the next one reads it. The disk is read once and in order, nothing is
 * copied, the reading is shared as the threads have time for it, and the faster one waits for the
 * slower: 16 MiB of memory whatever the size of the file.
 */

import { MiB } from '../core/units.ts'

/** What is read at once; also the largest chunk, so that one lies in two slots at most. */
export const slotBytes = MiB

/** Enough for one thread to be descheduled for some milliseconds while the other goes on. */
export const slotCount = 16
const ringBytes = slotCount * slotBytes

/** Cells of the control array. Slots are counted over the whole file: 16 TiB of them fit 31 bits. */
const cells = {
  /** Changes with everything that happens: the one cell that is waited on, so no wake-up is lost. */
  tick: 0,
  /** 1 when either side, or the main thread, gave up. */
  stopped: 1,
  /** The file's descriptor plus 1, once it is open; its size lies behind the cells. */
  opened: 2,
  /** How many slots were begun to be read, by either thread. */
  begun: 3,
  /** How many slots each end has let go of. */
  released: 4,
  /** Per slot of the ring: 1 + the slot of the file that is in it, all of it. */
  ready: 6,
} as const
const sizeOffset = 4 * (cells.ready + slotCount)
const controlBytes = sizeOffset + Float64Array.BYTES_PER_ELEMENT

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
    control: new SharedArrayBuffer(controlBytes),
  }
}

/** Makes a ring whose two threads have left ready for the next file. */
export function resetRing({ control }: RingMemory): void {
  new Uint8Array(control).fill(0)
}

/** Wakes both ends; their next wait throws RingStopped. Callable from any thread. */
export function stopRing(memory: RingMemory): void {
  const control = cellsOf(memory)
  Atomics.store(control, cells.stopped, 1)
  announce(control)
}

/** Thrown out of either end of a ring that was stopped: whoever stopped it knows why. */
export class RingStopped extends Error {
  override readonly name = 'RingStopped'
}

export interface SharedFile {
  /** One for both threads: two would look to the kernel like readers that jump about. */
  readonly fd: number
  readonly size: number
}

/** Tells the other end what to read. Keep the file open until all its slots have been taken. */
export function shareFile(memory: RingMemory, { fd, size }: SharedFile): void {
  const control = cellsOf(memory)
  new Float64Array(memory.control, sizeOffset)[0] = size
  Atomics.store(control, cells.opened, fd + 1)
  announce(control)
}

/** Waits for shareFile. */
export function awaitFile(memory: RingMemory): SharedFile {
  const control = cellsOf(memory)
  waitUntil(control, () => Atomics.load(control, cells.opened) > 0)
  const [size = 0] = new Float64Array(memory.control, sizeOffset)
  return { fd: Atomics.load(control, cells.opened) - 1, size }
}

/** Fills the slot with the bytes at `offset`; throws when it cannot. */
export type FillSlot = (slot: Uint8Array, offset: number) => void

export class RingEnd {
  readonly #control: Int32Array
  readonly #bytes: Uint8Array
  readonly #side: 0 | 1
  readonly #size: number
  readonly #fill: FillSlot

  constructor(memory: RingMemory, file: { side: 0 | 1; size: number; fill: FillSlot }) {
    this.#control = cellsOf(memory)
    this.#bytes = new Uint8Array(memory.bytes)
    this.#side = file.side
    this.#size = file.size
    this.#fill = file.fill
  }

  /**
   * The bytes from `offset`, at most a slot's, in one or two views that are valid until `release`
   * passes them; undefined when the file ends before them.
   */
  take(offset: number, length: number): readonly Uint8Array[] | undefined {
    const end = offset + length
    if (end > this.#size) return undefined
    for (let slot = Math.floor(offset / slotBytes); slot * slotBytes < end; slot += 1) {
      waitUntil(
        this.#control,
        () => this.#isReady(slot),
        () => this.#readNext(),
      )
    }
    const start = offset % ringBytes
    const first = this.#bytes.subarray(start, Math.min(start + length, ringBytes))
    if (first.length === length) return [first]
    return [first, this.#bytes.subarray(0, length - first.length)]
  }

  /** Nothing before `offset` is needed here any more. */
  release(offset: number): void {
    this.#setReleased(Math.floor(offset / slotBytes))
  }

  /** Nothing at all is needed here any more. */
  leave(): void {
    this.#setReleased(everything)
  }

  #setReleased(slots: number): void {
    if (Atomics.exchange(this.#control, cells.released + this.#side, slots) === slots) return
    announce(this.#control)
  }

  #isReady(slot: number): boolean {
    return Atomics.load(this.#control, cells.ready + (slot % slotCount)) === slot + 1
  }

  /** Reads the first slot that nobody has begun; false when there is none, or no room for it. */
  #readNext(): boolean {
    const control = this.#control
    const slot = Atomics.load(control, cells.begun)
    const offset = slot * slotBytes
    const released = Math.min(
      Atomics.load(control, cells.released),
      Atomics.load(control, cells.released + 1),
    )
    if (offset >= this.#size || slot - released >= slotCount) return false
    // When the other end was faster, there may be a next one.
    if (Atomics.compareExchange(control, cells.begun, slot, slot + 1) !== slot) return true
    const start = offset % ringBytes
    const length = Math.min(slotBytes, this.#size - offset)
    this.#fill(this.#bytes.subarray(start, start + length), offset)
    Atomics.store(control, cells.ready + (slot % slotCount), slot + 1)
    announce(control)
    return true
  }
}

function cellsOf(memory: RingMemory): Int32Array {
  return new Int32Array(memory.control, 0, cells.ready + slotCount)
}

function announce(control: Int32Array): void {
  Atomics.add(control, cells.tick, 1)
  Atomics.notify(control, cells.tick)
}

/** Blocks this thread until `isReady`, which may look at any cell, after whatever `help` can do. */
function waitUntil(
  control: Int32Array,
  isReady: () => boolean,
  help: () => boolean = () => false,
): void {
  for (;;) {
    // The tick is read before the condition: a change in between makes the wait return at once.
    const tick = Atomics.load(control, cells.tick)
    if (Atomics.load(control, cells.stopped) === 1) throw new RingStopped()
    if (isReady()) return
    if (!help()) Atomics.wait(control, cells.tick, tick)
  }
}
