import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { expect, test } from 'vitest'
import { StorageError } from '../../../../src/core/errors.ts'
import { loadIdentity } from '../../../../src/net/host/identity.ts'
import { openScratchFolder } from '../../../support/scratch-folder.ts'

test('makes a key once, readable by its owner only, whatever the umask', async () => {
  await using folder = await openScratchFolder()
  const before = process.umask(0)
  try {
    const first = await loadIdentity(folder.file('key'))
    const again = await loadIdentity(folder.file('key'))
    expect(again.equals(first)).toBe(true)
  } finally {
    process.umask(before)
  }
  expect((await stat(folder.file('key'))).mode & 0o777).toBe(0o600)
  expect(await readdir(folder.path)).toEqual(['key'])
})

test('two that start at once get the same key', async () => {
  await using folder = await openScratchFolder()
  const keys = await Promise.all([1, 2, 3, 4].map(() => loadIdentity(folder.file('key'))))
  expect(new Set(keys.map(key => key.publicKey.toString())).size).toBe(1)
})

test.for([0o640, 0o604, 0o620, 0o666])('refuses a key file of mode %o', async mode => {
  await using folder = await openScratchFolder()
  await loadIdentity(folder.file('key'))
  await chmod(folder.file('key'), mode)
  const failure = await loadIdentity(folder.file('key')).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(StorageError)
  expect((failure as StorageError).hint).toContain('chmod 600')
})

test.for([
  ['an empty file', Buffer.alloc(0)],
  ['text', Buffer.from('not a key')],
  ['a large file', Buffer.alloc(100_000)],
] as const)('does not take %s for a key, nor replace it', async ([, bytes]) => {
  await using folder = await openScratchFolder()
  await writeFile(folder.file('key'), bytes, { mode: 0o600 })
  await expect(loadIdentity(folder.file('key'))).rejects.toThrow(/does not hold an Ed25519 key/)
  expect(await readFile(folder.file('key'))).toEqual(bytes)
})

test('refuses a key of another kind', async () => {
  await using folder = await openScratchFolder()
  const other = privateKeyToProtobuf(await generateKeyPair('secp256k1'))
  await writeFile(folder.file('key'), other, { mode: 0o600 })
  await expect(loadIdentity(folder.file('key'))).rejects.toThrow(/Ed25519/)
})

test('never shows the key in an error', async () => {
  await using folder = await openScratchFolder()
  const key = privateKeyToProtobuf(await generateKeyPair('Ed25519'))
  const damaged = key.subarray(0, key.length - 1)
  await writeFile(folder.file('key'), damaged, { mode: 0o600 })
  const failure = (await loadIdentity(folder.file('key')).catch((error: unknown) => error)) as Error
  const shown = `${failure.stack} ${JSON.stringify(failure)} ${String(failure.cause)}`
  expect(shown).not.toContain(Buffer.from(damaged.subarray(8, 16)).toString('hex'))
  expect(failure.cause).toBeUndefined()
})

test('says which file cannot be written', async () => {
  await using folder = await openScratchFolder()
  await expect(loadIdentity(folder.file('no/such/key'))).rejects.toThrow(/no\/such\/key/)
})
