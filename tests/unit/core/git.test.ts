import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { gitBlobOid, gitOid } from '../../../src/core/git.ts'

const bytes = Buffer.from('some bytes\n')
const witness = execFileSync('git', ['hash-object', '--stdin'], { input: bytes }).toString().trim()

test('names a blob as git does', () => {
  expect(gitOid('blob', bytes)).toBe(witness)
  expect(gitOid('blob', Buffer.alloc(0))).toBe('e69de29bb2d1d6434b8b29ae775ad8c2e48c5391')
})

test('names a blob that comes in pieces alike', async () => {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    await Promise.resolve()
    yield bytes.subarray(0, 4)
    yield bytes.subarray(4)
  }
  expect(await gitBlobOid(bytes.length, pieces())).toBe(witness)
})
