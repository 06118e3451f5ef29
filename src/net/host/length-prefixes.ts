/**
 * Ends a message whose length prefix cannot become a number any more. `lpStream` of @libp2p/utils reads
 * a prefix byte by byte, takes every RangeError of uint8-varint for "not all here yet" and looks at its
 * limit only after that: a MiB of 0xff, which anybody may send where a protocol is negotiated, holds the
 * process for seconds. There is no option for it, so the list that is decoded refuses to be read.
 * tests/adversarial/port-share.test.ts fails when an upgrade makes this ineffective.
 */

import { Uint8ArrayList } from 'uint8arraylist'
import { InvalidInputError } from '../../core/errors.ts'

/** uint8-varint decodes as many; when the last of them says that more follow, no byte after it helps. */
const prefixBytesMax = 8
const moreFollows = 0x80

let isBound = false

/** Of all of libp2p in this process, once. */
export function boundLengthPrefixes(): void {
  if (isBound) return
  isBound = true
  const get = Reflect.get(Uint8ArrayList.prototype, 'get')
  Uint8ArrayList.prototype.get = function boundedGet(index) {
    if (index === prefixBytesMax - 1 && isEndlessPrefix(this)) {
      // Not a RangeError, which is what libp2p goes on after.
      throw new InvalidInputError('the length of a message has too many bytes')
    }
    return get.call(this, index)
  }
}

/** As only such a reader makes it: byte after byte, each of which says that more follow. */
function isEndlessPrefix(list: Uint8ArrayList): boolean {
  if (list.length <= prefixBytesMax) return false
  let seen = 0
  for (const bytes of list) {
    if (bytes.length !== 1 || (bytes[0] ?? 0) < moreFollows) return false
    seen += 1
    if (seen > prefixBytesMax) break
  }
  return true
}
