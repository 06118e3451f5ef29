/** The Range header as the Hub's clients use it: one range, clamped to the file. */

export type ByteRange =
  /** The whole file: no header, several ranges, or one that is not understood. */
  | { readonly kind: 'whole' }
  /** `[start, end)`, not empty. */
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'outside' }

const pattern = /^bytes=(\d{0,16})-(\d{0,16})$/u
const whole: ByteRange = { kind: 'whole' }

export function parseByteRange(header: string | undefined, size: number): ByteRange {
  const match = pattern.exec(header?.replaceAll(' ', '') ?? '')
  const [, first = '', last = ''] = match ?? []
  if (first === '' && last === '') return whole
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? { kind: 'outside' } : { kind: 'part', start: size - length, end: size }
  }
  const start = Number(first)
  const end = last === '' ? size : Math.min(Number(last) + 1, size)
  if (last !== '' && Number(last) < start) return whole
  return start >= size ? { kind: 'outside' } : { kind: 'part', start, end }
}
