/** Manifests made to escape the folder, to collide, or to exhaust the reader: research T7, T9, T10. */

import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { InvalidInputError } from '../../src/core/errors.ts'
import { MiB } from '../../src/core/units.ts'
import {
  decodeManifest,
  encodeManifest,
  makeManifest,
  manifestBytesMax,
} from '../../src/manifest/manifest.ts'
import { collisionKey, parsePath } from '../../src/manifest/paths.ts'
import { fuzzTimeoutMs, untilTime } from '../support/fuzz.ts'
import { emptyFileAt, largeFile, smallFile } from '../support/manifests.ts'
import { mutated } from '../support/mutations.ts'
import { cpuMs } from '../support/cpu-time.ts'

const hostileNames = [
  '..',
  '../evil',
  'a/../../evil',
  'a/./b',
  '/etc/passwd',
  '//server/share',
  '\\\\server\\share\\x',
  'a\\..\\..\\evil',
  'C:/Windows/x',
  'C:evil',
  'file.bin:stream',
  'file.bin::$DATA',
  '\\\\?\\C:\\x',
  '\\\\.\\PhysicalDrive0',
  'con',
  'CON.txt',
  'aux.safetensors',
  'sub/NUL',
  'nul .txt',
  'COM1',
  'com¹.bin',
  'lpt9.bin',
  'CONIN$',
  'clock$.x',
  'PROGRA~1/x',
  'GIT~1/hooks',
  '.git/config',
  '.GIT/hooks/post-checkout',
  'sub/.Git/config',
  'trailing.',
  'trailing ',
  ' leading',
  'a /b',
  'a./b',
  '-rf',
  'a/-o',
  'a\0.bin',
  'line\nfeed',
  'carriage\rreturn',
  'bell\u0007',
  'delete\u007f',
  'csi\u009b31m',
  'evil\u202egnp.exe',
  'zero\u200bwidth',
  'isolate\u2066x',
  'mark\ufeff',
  '.g\u200cit/config',
  'pipe|x',
  'what?',
  'star*',
  '<a>',
  'quote"',
  'e\u0301',
  'lone\ud800',
  '',
  'a//b',
  'a/',
  'x'.repeat(256),
  'a/'.repeat(32) + 'b',
  `${'x'.repeat(250)}/`.repeat(5) + 'x',
]

test.for(hostileNames)('the name %j is refused, alone and in a new manifest', name => {
  expect(() => parsePath(name)).toThrow(InvalidInputError)
  expect(() => makeManifest([smallFile(name)])).toThrow(InvalidInputError)
})

// A lone surrogate cannot be written as UTF-8, so it cannot arrive.
test.for(hostileNames.filter(name => name.isWellFormed()))('%j is refused on arrival', name => {
  const { root, size, sha256 } = smallFile('x')
  const block = dagCbor.encode({
    type: 'commonweight/manifest',
    version: 1,
    chunking: 'cw-chunk-1',
    files: [{ path: name, root, size, sha256 }],
  })
  expect(() => decodeManifest(block)).toThrow(InvalidInputError)
})

test('collisions are refused with the two names', () => {
  for (const [a, b] of [
    ['Model.bin', 'model.bin'],
    ['file.bin', 'ﬁle.bin'],
    ['Ω.bin', 'ω.bin'],
    ['weights/A.bin', 'Weights/a.bin'],
    ['２.bin', '2.bin'],
  ] as const) {
    expect(collisionKey(a)).toBe(collisionKey(b))
    const make = (): unknown => makeManifest([smallFile(a), smallFile(b)])
    expect(make).toThrow(JSON.stringify(a))
    expect(make).toThrow(JSON.stringify(b))
  }
})

/** Bytes that a general CBOR decoder turns into a thousand times as many. */
const bombs: readonly (readonly [string, Buffer])[] = [
  ['empty arrays', Buffer.concat([Buffer.from('9a03ffff00', 'hex'), Buffer.alloc(60 * MiB, 0x80)])],
  ['nested arrays', Buffer.alloc(60 * MiB, 0x81)],
  ['nested maps', Buffer.alloc(60 * MiB, 0xa1)],
  ['nested tags', Buffer.alloc(60 * MiB, 0xc1)],
  [
    'files of empty arrays',
    Buffer.concat([
      Buffer.from(
        `a46474797065${'75'}${Buffer.from('commonweight/manifest').toString('hex')}`,
        'hex',
      ),
      Buffer.from('6566696c65739a0001869f', 'hex'),
      Buffer.alloc(60 * MiB, 0x80),
    ]),
  ],
  [
    'an array of 2^53 - 1 files',
    Buffer.concat([
      Buffer.from(
        `a46474797065${'75'}${Buffer.from('commonweight/manifest').toString('hex')}`,
        'hex',
      ),
      Buffer.from('6566696c65739b001fffffffffffff', 'hex'),
    ]),
  ],
]

test.for(bombs)('%s are refused at once', ([, block]) => {
  expect(block.length).toBeLessThanOrEqual(manifestBytesMax)
  const before = cpuMs()
  const heapBefore = process.memoryUsage().heapUsed
  expect(() => decodeManifest(block)).toThrow(InvalidInputError)
  expect(cpuMs() - before).toBeLessThan(500)
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(20 * MiB)
})

const sample = encodeManifest(
  makeManifest([emptyFileAt('empty'), largeFile('sub/large'), smallFile('small'), smallFile('t')]),
)

/** Decoded and encoded; the bytes themselves when they are refused as they should be. */
function encodedAgain(bytes: Uint8Array): Buffer {
  try {
    return Buffer.from(encodeManifest(decodeManifest(bytes)))
  } catch (error) {
    if (error instanceof InvalidInputError) return Buffer.from(bytes)
    throw error
  }
}

test(
  'whatever bytes come, they are refused as bad input or are the one encoding of a manifest',
  () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(sample)), bytes => {
        expect(encodedAgain(bytes)).toEqual(Buffer.from(bytes))
      }),
      { plugins: [untilTime()], numRuns: 1e6 },
    )
  },
  fuzzTimeoutMs(),
)

test('no single byte of a manifest can be changed without notice', () => {
  for (let at = 0; at < sample.length; at += 1) {
    const changed = Buffer.from(sample)
    changed[at] = (changed[at] ?? 0) ^ 0x01
    expect(encodedAgain(changed)).toEqual(changed)
    expect(changed.equals(sample)).toBe(false)
  }
})
