/** A part of a file as Xet sends it: its chunks of 128 KiB, each with a head before it. */

import type { OpenedFile, Span } from '../../../src/node.ts'
import { xetChunkBytes, xetHeadBytes } from './xet.ts'

const sentChunkBytes = xetChunkBytes + xetHeadBytes

/** Offsets of `read` are those of the xorb. Disposing it disposes the file. */
export class XorbFile implements OpenedFile {
  readonly #file: OpenedFile
  /** Of the file. */
  readonly #span: Span

  constructor(file: OpenedFile, span: Span) {
    this.#file = file
    this.#span = span
  }

  get isWhole(): boolean {
    return this.#file.isWhole
  }

  async read({ offset, end }: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    let filled = 0
    while (filled < into.length && offset + filled < end) {
      const at = offset + filled
      const most = Math.min(into.length - filled, end - at)
      const room = into.subarray(filled, filled + most)
      const within = at % sentChunkBytes
      const chunk = this.#chunk(Math.floor(at / sentChunkBytes))
      filled +=
        within < xetHeadBytes
          ? copyHead(room, chunk.end - chunk.offset, within)
          : await this.#data(chunk, within - xetHeadBytes, { room, signal })
      // What is here is given before the rest is waited for.
      if (!this.isWhole && within >= xetHeadBytes) break
    }
    return into.subarray(0, filled)
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]()
  }

  /** Of the file. */
  #chunk(index: number): Span {
    const offset = this.#span.offset + index * xetChunkBytes
    return { offset, end: Math.min(offset + xetChunkBytes, this.#span.end) }
  }

  async #data(
    { offset, end }: Span,
    skip: number,
    { room, signal }: { room: Uint8Array; signal: AbortSignal },
  ): Promise<number> {
    const bytes = await this.#file.read({ offset: offset + skip, end }, room, signal)
    return bytes.length
  }
}

/** Version 0, length, scheme 0, length: what of it is from `within` on, as far as there is room. */
function copyHead(room: Uint8Array, length: number, within: number): number {
  const head = new Uint8Array(xetHeadBytes)
  const view = new DataView(head.buffer)
  // Three bytes each, the lowest first; the fourth of each is version and scheme.
  view.setUint32(0, length * 256, true)
  view.setUint32(4, length * 256, true)
  const part = head.subarray(within, within + room.length)
  room.set(part)
  return part.length
}
