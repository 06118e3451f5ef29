/** A file of the gateway as random access: what is not here is fetched and waited for. */

import { type ByteSource, viewOf } from '../../../src/core/bytes.ts'
import { type OpenedFile, readBytesMax } from '../../../src/node.ts'

export function fileSource(file: OpenedFile, size: number, signal: AbortSignal): ByteSource {
  const into = Buffer.allocUnsafeSlow(readBytesMax)
  return {
    size,
    async readAt(offset, length) {
      if (offset < 0 || length < 0 || offset + length > size) {
        throw new RangeError(`no bytes ${offset}+${length} of ${size}`)
      }
      const bytes = Buffer.alloc(length)
      for (let at = 0; at < length;) {
        const span = { offset: offset + at, end: offset + length }
        at += viewOf(await file.read(span, into, signal)).copy(bytes, at)
      }
      return bytes
    },
  }
}
