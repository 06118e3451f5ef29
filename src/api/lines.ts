/** NDJSON from the reading side: bytes as they arrive become lines, however they were cut on the way. */

import { LimitError } from '../core/errors.ts'

const newline = 0x0a

/** Complete lines; what follows the last line feed was cut off and is not one. */
export async function* readLines(
  parts: AsyncIterable<Uint8Array>,
  lineBytesMax: number,
): AsyncGenerator<string> {
  let held: Uint8Array[] = []
  let heldBytes = 0
  for await (const part of parts) {
    let start = 0
    for (let end = part.indexOf(newline); end !== -1; end = part.indexOf(newline, start)) {
      if (heldBytes + end - start > lineBytesMax) throw tooLong(lineBytesMax)
      yield Buffer.concat([...held, part.subarray(start, end)]).toString('utf8')
      held = []
      heldBytes = 0
      start = end + 1
    }
    heldBytes += part.length - start
    if (heldBytes > lineBytesMax) throw tooLong(lineBytesMax)
    if (start < part.length) held.push(part.subarray(start))
  }
}

function tooLong(bytes: number): LimitError {
  return new LimitError(`a line of the daemon's answer has more than ${bytes} bytes`)
}
