import { expect, test, vi } from 'vitest'
import { PlainFiles } from '../../../../../daemon/http/hub/plain-files.ts'
import { rawCid } from '../../../../../src/core/cid.ts'
import { sha256 } from '../../../../../src/core/digest.ts'
import { gitOid } from '../../../../../src/core/git.ts'
import { commitOf, type GitFile } from '../../../../../src/manifest/git-commit.ts'
import type { Gateway, NamedModel, OpenedFile, Span } from '../../../../../src/node.ts'

const bytes = Buffer.from('{"model_type":"bert"}')
const digest = sha256(bytes)
const model: NamedModel = { name: 'org/model', manifest: rawCid(digest) } as NamedModel
const signal = new AbortController().signal

/** As a manifest with a source has it. */
function fileOf(oid: string, lfs: boolean): GitFile {
  const file = { path: 'config.json', size: bytes.length, sha256: digest, root: rawCid(digest) }
  const source = { hub: 'hub.test', repo: 'o/m', type: 'model', commit: '0'.repeat(40) } as const
  const { entries } = commitOf([{ ...file, gitOid: oid, lfs }], 'bafy', source)
  return entries.get('config.json') as GitFile
}

/** Gives a few bytes at a time. */
function gatewayOver(read: OpenedFile['read']): Pick<Gateway, 'open'> {
  return { open: () => ({ isWhole: true, read, [Symbol.dispose]: () => undefined }) }
}
const pieces = (span: Span): Promise<Uint8Array> =>
  Promise.resolve(bytes.subarray(span.offset, Math.min(span.offset + 4, span.end)))

test('reads a file once to know that git calls it so', async () => {
  const read = vi.fn<OpenedFile['read']>(pieces)
  const files = new PlainFiles(gatewayOver(read))
  for (let times = 0; times < 3; times += 1) {
    await files.prove(model, fileOf(gitOid('blob', bytes), false), signal)
  }
  expect(read).toHaveBeenCalledTimes(Math.ceil(bytes.length / 4))
})

test('refuses a name that is not its own, each time', async () => {
  const files = new PlainFiles(gatewayOver(pieces))
  for (let times = 0; times < 2; times += 1) {
    const proving = files.prove(model, fileOf(gitOid('blob', Buffer.from('other')), false), signal)
    await expect(proving).rejects.toMatchObject({ code: 'INTEGRITY', hint: expect.any(String) })
  }
})

test('does not read what is in LFS: its SHA-256 was proven', async () => {
  const read = vi.fn<OpenedFile['read']>(pieces)
  await new PlainFiles(gatewayOver(read)).prove(model, fileOf('1'.repeat(40), true), signal)
  expect(read).not.toHaveBeenCalled()
})

test('ends when its reader leaves', async () => {
  const gone = new AbortController()
  const files = new PlainFiles(gatewayOver(() => new Promise(() => undefined)))
  const proving = files.prove(model, fileOf(gitOid('blob', bytes), false), gone.signal)
  gone.abort()
  await expect(proving).rejects.toMatchObject({ name: 'AbortError' })
})
