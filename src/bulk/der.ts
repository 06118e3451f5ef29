/**
 * DER, as far as one certificate needs it: elements written, and read within bounds. Pure.
 */

import { ProtocolError } from '../core/errors.ts'

export const derTags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** The tag of a context-specific, constructed element: [0], [3] … */
export function contextTag(number: number): number {
  return 0xa0 | number
}

/** Long form: the low bits of the first byte say how many bytes of length follow. */
const longForm = 0x80
/** Lengths of up to 64 KiB: a certificate has less. */
const lengthBytesMax = 2

/** One element: tag, length and the contents in a row. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents)
  const { length } = content
  const head =
    length < longForm
      ? [tag, length]
      : length < 0x100
        ? [tag, longForm | 1, length]
        : [tag, longForm | 2, length >> 8, length & 0xff]
  return Buffer.concat([Uint8Array.from(head), content])
}

export interface DerElement {
  readonly tag: number
  readonly content: Uint8Array
  /** Tag, length and content. */
  readonly whole: Uint8Array
}

/** The elements that these bytes are a row of; throws ProtocolError. */
export function derElements(bytes: Uint8Array): DerElement[] {
  const elements: DerElement[] = []
  for (let at = 0; at < bytes.length;) {
    const { tag, content, whole } = elementAt(bytes, at)
    elements.push({ tag, content, whole })
    at += whole.length
  }
  return elements
}

/** The elements inside one with this tag. */
export function derInside(element: DerElement | undefined, tag: number): DerElement[] {
  return derElements(derContent(element, tag))
}

/** The content of an element with this tag. */
export function derContent(element: DerElement | undefined, tag: number): Uint8Array {
  if (element?.tag !== tag)
    throw malformed(`tag ${tag} expected, ${element?.tag ?? 'nothing'} found`)
  return element.content
}

function elementAt(bytes: Uint8Array, start: number): DerElement {
  const tag = bytes[start]
  const first = bytes[start + 1]
  if (tag === undefined || first === undefined) throw malformed('cut short')
  let length = first
  let at = start + 2
  if (first >= longForm) {
    const count = first & ~longForm
    if (count < 1 || count > lengthBytesMax)
      throw malformed('a length that DER does not allow here')
    length = 0
    for (const end = at + count; at < end; at += 1) length = length * 0x100 + (bytes[at] ?? 0)
    // One length has one encoding.
    if (length < (count === 1 ? longForm : 0x100))
      throw malformed('a length that is not the shortest')
  }
  const end = at + length
  if (end > bytes.length) throw malformed('cut short')
  return { tag, content: bytes.subarray(at, end), whole: bytes.subarray(start, end) }
}

function malformed(why: string): ProtocolError {
  return new ProtocolError(`not DER: ${why}`)
}
