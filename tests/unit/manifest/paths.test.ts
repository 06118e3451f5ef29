import { posix, win32 } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { compareBytes } from '../../../src/core/bytes.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { collisionKey, comparePaths, parsePath } from '../../../src/manifest/paths.ts'

test.for([
  'model.safetensors',
  'model-00001-of-00030.safetensors',
  'onnx/model_quantized.onnx',
  '.gitattributes',
  '.gitignore',
  '1_Pooling/config.json',
  'README (copy).md',
  'tokenizer.model.v3',
  'été/モデル.bin',
  'weights+lora@v2,final;[1]{a}&b=c!.bin',
  'console.txt',
  'com10',
  'a~b',
  '_-',
  'x'.repeat(255),
  Array.from({ length: 32 }, () => 'd').join('/'),
])('accepts %j unchanged', path => {
  expect(parsePath(path)).toBe(path)
})

test.for([
  ['', 'is empty'],
  ['x'.repeat(1025), '1024 bytes'],
  [`${'é'.repeat(400)}/${'é'.repeat(112)}/b`, '1024 bytes'],
  ['a/'.repeat(32).concat('b'), '32 segments'],
  ['é'.repeat(128), '255 bytes'],
  ['a\ud800', 'well-formed'],
  ['e\u0301', 'NFC'],
  ['a//b', 'empty segment'],
] as const)('names the rule that %j breaks', ([path, rule]) => {
  expect(() => parsePath(path)).toThrow(InvalidInputError)
  expect(() => parsePath(path)).toThrow(rule)
})

test('paths that fold to one name have one key', () => {
  for (const [a, b] of [
    ['Model.bin', 'model.bin'],
    ['ﬁle.bin', 'file.bin'],
    ['\u212a.bin', 'k.bin'],
    ['ＭＯＤＥＬ', 'model'],
    ['Ångström', 'ångström'],
  ] as const) {
    expect(collisionKey(a)).toBe(collisionKey(b))
  }
  expect(collisionKey('a.bin')).not.toBe(collisionKey('b.bin'))
})

test('a key is its own key', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), text => {
      // Not for all of Unicode: lower case can undo NFKC. It must hold where keys are compared.
      fc.pre(/^[\p{Script=Latin}\p{Script=Greek}\p{N}./-]*$/u.test(text))
      expect(collisionKey(collisionKey(text))).toBe(collisionKey(text))
    }),
  )
})

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('a', 'B', '/', '.', '\ue000', '\uffff', '😀', '𝒳', 'é') }),
)

test('the order of paths is the order of their UTF-8 bytes', () => {
  fc.assert(
    fc.property(anyText, anyText, (a, b) => {
      const expected = compareBytes(Buffer.from(a), Buffer.from(b))
      expect(Math.sign(comparePaths(a, b))).toBe(expected)
    }),
    { numRuns: 1000 },
  )
})

/** Text of the pieces that escape naive checks. */
const hostileText = fc
  .array(
    fc.oneof(
      fc.constantFrom('/', '\\', '.', '..', ':', 'C:', '~1', ' ', '\0', 'con', 'a', '//', '?', '-'),
      fc.string({ unit: 'binary', maxLength: 3 }),
    ),
    { maxLength: 8 },
  )
  .map(pieces => pieces.join(''))

/** The path itself when refused stays out of the way: what is resolved must be inside. */
function accepted(path: string): string | undefined {
  try {
    return parsePath(path)
  } catch {
    return undefined
  }
}

test('every accepted path stays inside the folder, on POSIX and on Windows', () => {
  fc.assert(
    fc.property(fc.oneof(hostileText, fc.string({ unit: 'binary' })), text => {
      const path = accepted(text)
      fc.pre(path !== undefined)
      expect(posix.resolve('/models/m', path)).toBe(`/models/m/${path}`)
      expect(win32.resolve('C:\\models\\m', path)).toBe(
        `C:\\models\\m\\${path.replaceAll('/', '\\')}`,
      )
    }),
    { numRuns: 1000 },
  )
})
