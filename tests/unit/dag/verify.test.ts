import { sha256 } from '@noble/hashes/sha2.js'
import { expect, test } from 'vitest'
import { codecs, makeCid, rawCid } from '../../../src/core/cid.ts'
import { IntegrityError } from '../../../src/core/errors.ts'
import { rootOf } from '../../../src/dag/unixfs.ts'
import { verifyBlock, verifyDigest, verifyTable } from '../../../src/dag/verify.ts'
import { inventedTable } from '../../support/dags.ts'

const bytes = Buffer.from('weights')

test('bytes that hash to their name are verified', () => {
  expect(verifyDigest(sha256(bytes), bytes).bytes).toBe(bytes)
  expect(verifyBlock(rawCid(sha256(bytes)), bytes).bytes).toBe(bytes)
  expect(verifyBlock(makeCid(codecs.dagPb, sha256(bytes)), bytes).bytes).toBe(bytes)
})

test('one bit more or less is refused, and so is a byte', () => {
  for (const wrong of [Buffer.from('weighus'), Buffer.from('weight'), Buffer.from('weights\0')]) {
    expect(() => verifyDigest(sha256(bytes), wrong)).toThrow(IntegrityError)
    expect(() => verifyBlock(rawCid(sha256(bytes)), wrong)).toThrow(IntegrityError)
  }
})

const table = inventedTable(1500, index => 1000 + index)
const root = rootOf(table)

test('a table that makes the root is taken', () => {
  expect(verifyTable(root, table.size, table.bytes).count).toBe(1500)
})

/** The table with one byte changed. */
function damaged(at: number): Buffer {
  const copy = Buffer.from(table.bytes)
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}

test.for([
  ['a wrong digest', damaged(36 * 700)],
  ['a wrong length', damaged(36 * 700 + 32)],
  ['a chunk too few', Buffer.from(table.bytes.subarray(36))],
  ['half a record', Buffer.from(table.bytes.subarray(1))],
  ['no chunks', Buffer.alloc(0)],
  ['an empty chunk', Buffer.concat([table.bytes, Buffer.alloc(36)])],
] satisfies [string, Buffer][])('a table with %s is refused', ([, wrong]) => {
  expect(() => verifyTable(root, table.size, wrong)).toThrow(IntegrityError)
})

test('a table of the right root and another size than declared is refused', () => {
  expect(() => verifyTable(root, table.size + 1, table.bytes)).toThrow('covers')
})

test('two lengths exchanged with the sum kept are refused', () => {
  const copy = Buffer.from(table.bytes)
  copy.writeUInt32LE(table.length(1), 32)
  copy.writeUInt32LE(table.length(0), 36 + 32)
  expect(() => verifyTable(root, table.size, copy)).toThrow('makes the root')
})
