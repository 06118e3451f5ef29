/** The thread behind growing-hash.ts. */

import { parentPort } from 'node:worker_threads'
import { createSha256, type Hasher } from '../core/digest.ts'
import { StorageError } from '../core/errors.ts'
import { sendError } from '../core/sent-error.ts'
import { MiB } from '../core/units.ts'
import { readFully } from './file-plan.ts'
import type { GrowingMessage, GrowingReply } from './growing-hash.ts'

/** Hashed before other messages are looked at: 3 ms. */
const stepBytes = 4 * MiB

interface Growing {
  readonly hasher: Hasher
  hashed: number
  fd: number
  reached: number
  failure: unknown
}

const port = parentPort
if (port === null) throw new Error('growing-worker.ts runs as a worker thread only')
const files = new Map<number, Growing>()
let buffer: Buffer | undefined
let isBusy = false

port.on('message', (message: GrowingMessage) => {
  if (message.kind === 'reach') {
    const file = growing(message.file)
    file.fd = message.fd
    file.reached = message.bytes
    if (!isBusy) work()
    return
  }
  const file = growing(message.file)
  files.delete(message.file)
  if (message.kind === 'digest') while (hasMore(file)) step(file)
  const error = file.failure === undefined ? undefined : sendError(file.failure)
  const isWanted = message.kind === 'digest' && error === undefined
  const sha256 = isWanted ? Uint8Array.from(file.hasher.digest()) : undefined
  port.postMessage({ file: message.file, sha256, error } satisfies GrowingReply)
})

/** A step of each file, and then again once the messages that came were heard. */
function work(): void {
  isBusy = false
  for (const file of files.values()) {
    if (hasMore(file)) step(file)
    isBusy ||= hasMore(file)
  }
  if (isBusy) setImmediate(work)
}

function growing(id: number): Growing {
  const known = files.get(id)
  if (known !== undefined) return known
  const file = { hasher: createSha256(), hashed: 0, fd: -1, reached: 0, failure: undefined }
  files.set(id, file)
  return file
}

function hasMore(file: Growing): boolean {
  return file.failure === undefined && file.hashed < file.reached
}

function step(file: Growing): void {
  try {
    buffer ??= Buffer.allocUnsafeSlow(stepBytes)
    const wanted = buffer.subarray(0, file.reached - file.hashed)
    const filled = readFully(file.fd, wanted, file.hashed)
    if (filled < wanted.length) throw new StorageError('a growing file became shorter')
    file.hasher.update(wanted)
    file.hashed += filled
  } catch (error) {
    file.failure = error
  }
}
