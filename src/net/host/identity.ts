/**
 * The node's key file: an Ed25519 private key in libp2p's protobuf encoding (68 bytes), which kubo and
 * other libp2p tools read as well. The key is never logged and never part of an error message.
 */

import { randomBytes } from 'node:crypto'
import { link, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { StorageError, systemCode } from '../../core/errors.ts'

/** Our key takes 68 bytes; a file of more than this is something else and is not read whole. */
const keyFileBytesMax = 1024
/** Any permission for group or others. */
const sharedModeBits = 0o077

/** The key in `path`; made there, readable by its owner only, when there is none. */
export async function loadIdentity(path: string): Promise<PrivateKey> {
  const found = await readKey(path)
  if (found !== undefined) return found
  const created = await generateKeyPair('Ed25519')
  if (await publishKey(path, privateKeyToProtobuf(created))) return created
  // Another process made one in the meantime: theirs is the node's key.
  const theirs = await readKey(path)
  if (theirs === undefined) throw new StorageError(`the key file ${path} appeared and vanished`)
  return theirs
}

async function readKey(path: string): Promise<PrivateKey | undefined> {
  let bytes: Uint8Array
  try {
    await using file = await open(path, 'r')
    const { mode, size } = await file.stat()
    refuseShared(path, mode)
    if (size > keyFileBytesMax) throw damaged(path)
    bytes = await file.readFile()
  } catch (error) {
    if (error instanceof StorageError) throw error
    if (systemCode(error) === 'ENOENT') return undefined
    throw new StorageError(`reading the key file ${path}`, { cause: error })
  }
  return decodeKey(path, bytes)
}

function decodeKey(path: string, bytes: Uint8Array): PrivateKey {
  let key: PrivateKey
  try {
    key = privateKeyFromProtobuf(bytes)
  } catch {
    // The decoder's own error may quote what it read, so it is not kept as the cause.
    throw damaged(path)
  }
  if (key.type !== 'Ed25519') throw damaged(path)
  return key
}

function damaged(path: string): StorageError {
  return new StorageError(`the key file ${path} does not hold an Ed25519 key`, {
    hint: 'restore it from a backup, or move it away to start with a new identity',
  })
}

function refuseShared(path: string, mode: number): void {
  // Windows has no such bits: there the home's access list protects the key.
  if (process.platform === 'win32' || (mode & sharedModeBits) === 0) return
  throw new StorageError(`the key file ${path} can be read by others`, {
    hint: `chmod 600 ${path}`,
  })
}

/** Puts the whole file in place or nothing, even at a power cut; false when another was first. */
async function publishKey(path: string, bytes: Uint8Array): Promise<boolean> {
  const scratch = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    {
      await using file = await open(scratch, 'wx', 0o600)
      await file.writeFile(bytes)
      await file.sync()
    }
    // link, unlike rename, refuses to replace a key that appeared meanwhile.
    await link(scratch, path)
    await syncFolder(dirname(path))
    return true
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw new StorageError(`writing the key file ${path}`, { cause: error })
  } finally {
    await unlink(scratch).catch((error: unknown) => {
      if (systemCode(error) !== 'ENOENT') throw error
    })
  }
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open a folder; its file system journals the new name itself.
  if (process.platform === 'win32') return
  await using folder = await open(path, 'r')
  await folder.sync()
}
