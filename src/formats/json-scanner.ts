/**
 * Walks over JSON text without building values. It accepts exactly what ECMAScript's JSON.parse
 * accepts, at any depth, in time linear in the text; JSON.parse itself would let a hostile header of
 * 100 MB grow into gigabytes of empty arrays.
 */

import { viewOf } from '../core/bytes.ts'
import { malformed } from './tensors.ts'

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const colon = 0x3a
const openObject = 0x7b
const closeObject = 0x7d
const openArray = 0x5b
const closeArray = 0x5d
const minus = 0x2d
const plus = 0x2b
const point = 0x2e
const zero = 0x30

const literals: ReadonlyMap<number, Buffer> = new Map(
  ['true', 'false', 'null'].map(word => [word.charCodeAt(0), Buffer.from(word)]),
)
/** Bytes that may follow a backslash, apart from `u`. */
const simpleEscapes: ReadonlySet<number> = new Set(Buffer.from('"\\/bfnrt'))
const letterU = 0x75

export class JsonScanner {
  readonly #bytes: Buffer
  #at = 0

  /** `bytes` are well-formed UTF-8: the caller has checked. */
  constructor(bytes: Uint8Array) {
    this.#bytes = viewOf(bytes)
  }

  /** True when the next value is an object. */
  get atObject(): boolean {
    return this.#peek() === openObject
  }

  get atArray(): boolean {
    return this.#peek() === openArray
  }

  get atNumber(): boolean {
    const byte = this.#peek()
    return byte === minus || isDigit(byte)
  }

  /** Throws unless only white space is left. */
  end(): void {
    if (this.#peek() !== -1) throw this.#unexpected()
  }

  /** Reads an object; `onKey` is called before each value and must read it. */
  object(onKey: (key: string) => void): void {
    this.#expect(openObject)
    if (this.#accept(closeObject)) return
    do {
      const key = this.#string()
      this.#expect(colon)
      onKey(key)
    } while (this.#accept(comma))
    this.#expect(closeObject)
  }

  /** Reads an object and skips all but the values of `key` (ASCII); `onValue` must read each. */
  member(key: string, onValue: () => void): void {
    this.#expect(openObject)
    if (this.#accept(closeObject)) return
    do {
      const isKey = this.#isString(key)
      this.#expect(colon)
      if (isKey) onValue()
      else this.skip()
    } while (this.#accept(comma))
    this.#expect(closeObject)
  }

  /** Reads an array; `onItem` is called before each item and must read it. */
  array(onItem: () => void): void {
    this.#expect(openArray)
    if (this.#accept(closeArray)) return
    do onItem()
    while (this.#accept(comma))
    this.#expect(closeArray)
  }

  number(): number {
    this.#peek()
    const start = this.#at
    this.#skipNumber()
    return Number(this.#bytes.toString('latin1', start, this.#at))
  }

  /** Reads a value of any kind and depth. */
  skip(): void {
    const open = new OpenContainers()
    for (;;) {
      // Every container needs a byte that closes it, so this many are too many.
      if (open.depth > this.#bytes.length - this.#at) throw this.#unexpected()
      const opened = this.#skipScalarOrOpen()
      if (opened === 'object') this.#skipKey()
      if (opened !== undefined) {
        open.push(opened)
        continue
      }
      if (!this.#skipToNextValue(open)) return
    }
  }

  /** Reads a scalar or an empty container, or the opening byte of one that is not empty. */
  #skipScalarOrOpen(): Container | undefined {
    switch (this.#peek()) {
      case openObject:
        this.#at += 1
        return this.#accept(closeObject) ? undefined : 'object'
      case openArray:
        this.#at += 1
        return this.#accept(closeArray) ? undefined : 'array'
      case quote:
        this.#skipString()
        return undefined
      default:
        if (this.atNumber) this.#skipNumber()
        else this.#skipLiteral()
        return undefined
    }
  }

  /** After a value: closes what ends here and reads up to the next value; false when none is left. */
  #skipToNextValue(open: OpenContainers): boolean {
    while (open.depth > 0) {
      const isObject = open.top === 'object'
      if (this.#accept(comma)) {
        if (isObject) this.#skipKey()
        return true
      }
      this.#expect(isObject ? closeObject : closeArray)
      open.pop()
    }
    return false
  }

  #skipKey(): void {
    this.#peek()
    this.#skipString()
    this.#expect(colon)
  }

  #string(): string {
    this.#peek()
    const start = this.#at
    const hasEscapes = this.#skipString()
    return hasEscapes
      ? (JSON.parse(this.#bytes.toString('utf8', start, this.#at)) as string)
      : this.#bytes.toString('utf8', start + 1, this.#at - 1)
  }

  /** Reads a string; true when it is `text`. Makes no string of it: most keys are skipped. */
  #isString(text: string): boolean {
    this.#peek()
    const start = this.#at
    if (this.#skipString())
      return JSON.parse(this.#bytes.toString('utf8', start, this.#at)) === text
    if (this.#at - start !== text.length + 2) return false
    for (let index = 0; index < text.length; index += 1) {
      if (this.#bytes[start + 1 + index] !== text.charCodeAt(index)) return false
    }
    return true
  }

  /** Returns whether the string has escapes. */
  #skipString(): boolean {
    const bytes = this.#bytes
    if (bytes[this.#at] !== quote) throw this.#unexpected()
    let hasEscapes = false
    for (let at = this.#at + 1; at < bytes.length; at += 1) {
      const byte = bytes[at] ?? 0
      if (byte === quote) {
        this.#at = at + 1
        return hasEscapes
      }
      if (byte < 0x20) throw malformed(`a control character in a string, byte ${at}`)
      if (byte === backslash) {
        hasEscapes = true
        at += this.#escapeLength(at + 1)
      }
    }
    throw malformed('the JSON ends within a string')
  }

  /** Bytes of the escape at `at`, which is after the backslash. */
  #escapeLength(at: number): number {
    const byte = this.#bytes[at] ?? 0
    if (simpleEscapes.has(byte)) return 1
    const isUnicode = byte === letterU && [1, 2, 3, 4].every(n => isHex(this.#bytes[at + n] ?? 0))
    if (!isUnicode) throw malformed(`a bad escape, byte ${at}`)
    return 5
  }

  #skipNumber(): void {
    if (this.#bytes[this.#at] === minus) this.#at += 1
    // No digit may follow a leading zero; if one does, it is no valid continuation of any value.
    if (this.#bytes[this.#at] === zero) this.#at += 1
    else this.#skipDigits()
    if (this.#bytes[this.#at] === point) {
      this.#at += 1
      this.#skipDigits()
    }
    // E or e.
    if (((this.#bytes[this.#at] ?? 0) | 0x20) === 0x65) {
      this.#at += 1
      const sign = this.#bytes[this.#at]
      if (sign === plus || sign === minus) this.#at += 1
      this.#skipDigits()
    }
  }

  #skipDigits(): void {
    if (!isDigit(this.#bytes[this.#at] ?? 0)) throw this.#unexpected()
    while (isDigit(this.#bytes[this.#at] ?? 0)) this.#at += 1
  }

  #skipLiteral(): void {
    const word = literals.get(this.#peek())
    const end = this.#at + (word?.length ?? 0)
    if (word === undefined || !this.#bytes.subarray(this.#at, end).equals(word)) {
      throw this.#unexpected()
    }
    this.#at = end
  }

  /** Skips white space; the byte after it, or -1 at the end. */
  #peek(): number {
    const bytes = this.#bytes
    for (; this.#at < bytes.length; this.#at += 1) {
      const byte = bytes[this.#at] ?? 0
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte
    }
    return -1
  }

  #accept(byte: number): boolean {
    if (this.#peek() !== byte) return false
    this.#at += 1
    return true
  }

  #expect(byte: number): void {
    if (!this.#accept(byte)) throw this.#unexpected()
  }

  #unexpected(): Error {
    return malformed(`not JSON at byte ${this.#at}`)
  }
}

type Container = 'object' | 'array'

/** The containers around a value. One byte each: a hostile header nests them by the million. */
class OpenContainers {
  #isObject = new Uint8Array(64)
  depth = 0

  get top(): Container {
    return this.#isObject[this.depth - 1] === 1 ? 'object' : 'array'
  }

  push(container: Container): void {
    if (this.depth === this.#isObject.length) {
      const grown = new Uint8Array(this.depth * 2)
      grown.set(this.#isObject)
      this.#isObject = grown
    }
    this.#isObject[this.depth] = container === 'object' ? 1 : 0
    this.depth += 1
  }

  pop(): void {
    this.depth -= 1
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}

function isHex(byte: number): boolean {
  return isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66)
}
