import fc from 'fast-check'
import { expect, test } from 'vitest'
import { plural, printable, shorten, shortenMiddle, widthOf, withHome } from '../../../cli/text.ts'

test('shows control characters as escapes instead of sending them to the terminal', () => {
  expect(printable('a\u001B[2Jb\u0007\r\nc')).toBe(String.raw`a\x1b[2Jb\x07\x0d\x0ac`)
  expect(printable('\u009B31m')).toBe(String.raw`\x9b31m`)
  expect(printable('evil\u202Egpj.exe')).toBe(String.raw`evil\u202egpj.exe`)
})

test('keeps lines where a message may have several', () => {
  expect(printable('a\nb\tc', { keepLines: true })).toBe('a\nb\\x09c')
})

test('leaves every other character alone', () => {
  expect(printable('模型/модель-7B.gguf 🎉')).toBe('模型/модель-7B.gguf 🎉')
})

test('never leaves a control character, whatever the text', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0x2070)), codes => {
      const text = String.fromCodePoint(...codes)
      // oxlint-disable-next-line no-control-regex -- the characters are the point
      expect(printable(text)).not.toMatch(/[\u0000-\u001F\u007F-\u009F]/)
    }),
  )
})

test('cuts to the width and marks the cut', () => {
  expect(shorten('model.safetensors', 8)).toBe('model.s…')
  expect(shorten('short', 8)).toBe('short')
  expect(shorten('short', 0)).toBe('')
  expect(shortenMiddle('bafyreigdmqpykrgxyaxtlafq', 11)).toBe('bafyr…tlafq')
})

test('never makes a cut text wider than asked', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), fc.nat(40), (text, width) => {
      expect(widthOf(shorten(text, width))).toBeLessThanOrEqual(width)
      expect(widthOf(shortenMiddle(text, width))).toBeLessThanOrEqual(width)
    }),
  )
})

test('counts in plain words', () => {
  expect(plural(1, 'file')).toBe('1 file')
  expect(plural(12_345, 'file')).toBe('12,345 files')
})

test('makes the commands that a text names work on the home in use', () => {
  const text = 'end it with commonweight stop, or commonweight pull REF'
  expect(withHome(text, undefined)).toBe(text)
  const there = 'end it with commonweight --home ./a stop, or commonweight --home ./a pull REF'
  expect(withHome(text, './a')).toBe(there)
  expect(withHome(there, './a')).toBe(there)
  expect(withHome('commonweight stop', "it's mine")).toBe(
    String.raw`commonweight --home 'it'\''s mine' stop`,
  )
  expect(withHome('a newer commonweight: upgrade', './a')).toBe('a newer commonweight: upgrade')
})
