import { expect, test } from 'vitest'
import { codecs, makeCid } from '../../../src/core/cid.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { MiB, TiB } from '../../../src/core/units.ts'
import { checkFiles } from '../../../src/manifest/check-files.ts'
import type { ManifestFile } from '../../../src/manifest/manifest.ts'
import { emptyFileAt, largeFile, smallFile } from '../../support/manifests.ts'

test('takes files that can be a model', () => {
  expect(() => {
    checkFiles([
      emptyFileAt('a'),
      emptyFileAt('b/empty'),
      largeFile('c', 2),
      largeFile('d', 16 * TiB),
      smallFile('e', 1),
      smallFile('f', MiB),
      { ...smallFile('f', MiB), path: 'g' },
    ])
  }).not.toThrow()
})

const a = smallFile('a')
const b = largeFile('b')

test.for([
  ['no files', [], 'without files'],
  ['a path that is not safe', [smallFile('../a')], 'not a path'],
  ['files out of order', [smallFile('b'), smallFile('a')], 'order'],
  ['an order by UTF-16 instead of bytes', [smallFile('😀'), smallFile('\uff5e')], 'order'],
  ['a path twice', [a, a], 'listed twice'],
  [
    'case collisions',
    [smallFile('Model.bin'), smallFile('model.bin')],
    '"Model.bin" and "model.bin"',
  ],
  [
    'compatibility collisions',
    [smallFile('file.bin'), smallFile('ﬁle.bin')],
    '"file.bin" and "ﬁle.bin"',
  ],
  ['a Kelvin sign', [smallFile('k.bin'), smallFile('\u212a.bin')], 'NFC'],
  ['a file that is a folder', [smallFile('a'), smallFile('a/b')], '"a" is a file, and a folder'],
  ['a file that is a folder in other case', [smallFile('A'), smallFile('a/b/c')], '"A" is a file'],
  ['a folder high above', [smallFile('a'), smallFile('a.b'), smallFile('a/b/c')], '"a" is a file'],
  ['a negative size', [{ ...a, size: -1 }], 'no size'],
  ['half a byte', [{ ...a, size: 0.5 }], 'no size'],
  ['more than 16 TiB', [largeFile('a', 16 * TiB + 1)], 'at most'],
  [
    'more than 256 TiB together',
    Array.from({ length: 17 }, (_, n) => largeFile(`f${String.fromCharCode(97 + n)}`, 16 * TiB)),
    'a model of',
  ],
  ['a SHA-256 that is too short', [{ ...b, sha256: b.sha256.subarray(1) }], 'no SHA-256'],
  ['an empty file with bytes', [{ ...emptyFileAt('a'), size: 1 }], 'has bytes'],
  ['bytes without an empty file', [{ ...a, size: 0 }], 'is empty'],
  ['an empty file with a DAG', [{ ...emptyFileAt('a'), root: b.root }], 'is empty'],
  ['one chunk of more than 1 MiB', [{ ...a, size: MiB + 1 }], 'too many for its one chunk'],
  ['one chunk that is not the file', [{ ...a, sha256: b.sha256 }], 'not the file'],
  ['chunks of one byte together', [{ ...b, size: 1 }], 'too few'],
  ['a root that is a manifest', [{ ...a, root: makeCid(codecs.dagCbor, a.sha256) }], 'no file'],
  ['equal SHA-256 and other sizes', [b, { ...b, path: 'c', size: b.size + 1 }], 'contradict'],
  ['equal SHA-256 and other roots', [b, { ...largeFile('c'), sha256: b.sha256 }], 'contradict'],
  ['equal roots and other SHA-256', [b, { ...largeFile('c'), root: b.root }], 'contradict'],
  [
    'equal SHA-256, one chunk or several',
    [a, { ...b, sha256: a.sha256, size: a.size }],
    'contradict',
  ],
] satisfies [string, ManifestFile[], string][])('refuses %s', ([, files, reason]) => {
  const check = (): void => {
    checkFiles(files)
  }
  expect(check).toThrow(InvalidInputError)
  expect(check).toThrow(reason)
})
