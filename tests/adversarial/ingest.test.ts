/** Files that change, vanish or lie while they are hashed; threads that die; names no manifest takes. */

import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { createHash } from 'node:crypto'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { toHex } from '../../src/core/bytes.ts'
import { digestBytes } from '../../src/core/digest.ts'
import {
  ConflictError,
  InvalidInputError,
  LimitError,
  StorageError,
} from '../../src/core/errors.ts'
import { GiB, MiB, second, TiB } from '../../src/core/units.ts'
import { findFiles } from '../../src/ingest/folder.ts'
import { type HashedChunks, type HashPool, openHashPool } from '../../src/ingest/hash-file.ts'
import { importFiles } from '../../src/ingest/import-files.ts'
import { dagCases } from '../support/vectors.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'

let scratch: ScratchFolder
let pool: HashPool

beforeEach(async () => {
  scratch = await openScratchFolder()
  pool = openHashPool({ workers: 2 })
  onTestFinished(async () => {
    await pool[Symbol.asyncDispose]()
    await scratch[Symbol.asyncDispose]()
  })
})

/** Holes read as zeros at the speed of memory: big files for nothing. */
function sparse(name: string, size: number): string {
  const place = scratch.file(name)
  const fd = openSync(place, 'w')
  ftruncateSync(fd, size)
  closeSync(fd)
  return place
}

/** Long enough to hash that progress is told, and that the file can be changed, in the middle. */
const slowBytes = 768 * MiB

/** Hashes a slow file and calls `change` once, in the middle. */
async function hashWhile(place: string, change: () => void): Promise<unknown> {
  let isChanged = false
  const onBytes = (): void => {
    if (!isChanged) change()
    isChanged = true
  }
  const outcome: unknown = await pool.hashFile(place, { onBytes }).catch((error: unknown) => error)
  expect(isChanged, 'the file was hashed before it could be changed').toBe(true)
  return outcome
}

test.for([
  ['grows', (place: string) => appendFileSync(place, 'more')],
  ['shrinks', (place: string) => truncateSync(place, 5 * MiB)],
  ['is written to', (place: string) => overwrite(place)],
  ['vanishes', (place: string) => unlinkSync(place)],
  [
    'is replaced by another of the same size',
    (place: string) => renameSync(sparse('other', slowBytes), place),
  ],
] as const)('a file that %s while it is hashed is a conflict that names it', async ([, change]) => {
  const place = sparse('slow', slowBytes)
  const outcome = await hashWhile(place, () => change(place))
  expect(outcome).toBeInstanceOf(ConflictError)
  expect((outcome as ConflictError).message).toContain(place)
  expect((outcome as ConflictError).hint).toBeDefined()
  expect(openDescriptors(place)).toEqual([])
})

function overwrite(place: string): void {
  const fd = openSync(place, 'r+')
  writeSync(fd, Buffer.from('other'), 0, 5, 700 * MiB)
  closeSync(fd)
}

test('an import that fails stops the rest of it, and the pool can be used again', async () => {
  await mkdir(scratch.file('model'))
  const places = Array.from({ length: 4 }, (_, n) => sparse(`model/${n}`, 64 * GiB))
  const found = await findFiles([scratch.file('model')])
  unlinkSync(places[1] as string)
  await expect(importFiles({ pool }, found)).rejects.toThrow(places[1])
  expect((await pool.hashFile(sparse('small', 10))).stamp.size).toBe(10)
  await expect.poll(() => places.flatMap(openDescriptors)).toEqual([])
})

/** Descriptors of this process on a place: threads share them. Empty where /proc is not there. */
function openDescriptors(place: string): string[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(place)
    } catch {
      return false
    }
  })
}

test('an abort in mid-file is felt at once and leaves no file open', async () => {
  const place = sparse('slow', 64 * GiB)
  const abort = new AbortController()
  const reason = new Error('enough')
  let abortedMs = 0
  const onBytes = (): void => {
    expect(openDescriptors(place)).toHaveLength(process.platform === 'linux' ? 1 : 0)
    abortedMs ||= performance.now()
    abort.abort(reason)
  }
  await expect(pool.hashFile(place, { signal: abort.signal, onBytes })).rejects.toBe(reason)
  // Of the minute that all of it takes.
  expect(performance.now() - abortedMs).toBeLessThan(5 * second)
  await pool[Symbol.asyncDispose]()
  expect(openDescriptors(place)).toEqual([])
})

test('an abort frees the threads for the next file', async () => {
  const signal = AbortSignal.timeout(200)
  await expect(pool.hashFile(sparse('slow', 64 * GiB), { signal })).rejects.toThrow(
    /abort|timeout/i,
  )
  const next = sparse('next', 20 * MiB)
  expect((await pool.hashFile(next)).table.count).toBe(20)
})

test('an abort does no harm to the file that waits for the same threads', async () => {
  const next = sparse('next', 20 * MiB)
  const lengths = new Uint32Array(20).fill(MiB)
  const abort = new AbortController()
  let waiting: Promise<HashedChunks> | undefined
  const onBytes = (): void => {
    waiting ??= pool.hashChunks(next, lengths)
    abort.abort()
  }
  const slow = pool.hashFile(sparse('slow', 8 * GiB), { signal: abort.signal, onBytes })
  await expect(slow).rejects.toThrow('abort')
  expect((await waiting)?.digests.length).toBe(20 * digestBytes)
})

test('an abort takes back what no thread has begun', async () => {
  const slow = pool.hashFile(sparse('slow', slowBytes))
  const abort = new AbortController()
  const waiting = pool.sha256(sparse('waiting', 10), { signal: abort.signal })
  const reason = new Error('enough')
  abort.abort(reason)
  await expect(waiting).rejects.toBe(reason)
  expect((await slow).stamp.size).toBe(slowBytes)
})

test('ends in the middle of its work: who waits is told, nothing stays open', async () => {
  const place = sparse('slow', 64 * GiB)
  const slow = pool.hashFile(place)
  const queued = pool.sha256(place)
  const outcomes = Promise.allSettled([slow, queued])
  await sleep(200)
  await pool[Symbol.asyncDispose]()
  const failure = { status: 'rejected', reason: { name: 'AbortError' } }
  expect(await outcomes).toMatchObject([failure, failure])
  expect(openDescriptors(place)).toEqual([])
  await expect(pool.sha256(place)).rejects.toThrow(/ended/)
})

const entry = new URL('../../src/ingest/hash-worker.ts', import.meta.url).href

/** A real hash thread that dies when it is given this kind of job, as long as the cell is 1. */
function mortalWorker(kind: string, death: string, isMortal: Int32Array): Worker {
  return new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     const on = parentPort.on.bind(parentPort)
     parentPort.on = (event, take) => on(event, job => {
       if (job.kind === '${kind}' && Atomics.load(workerData, 0) === 1) { ${death} }
       take(job)
     })
     import(${JSON.stringify(entry)})`,
    { eval: true, execArgv: [], workerData: isMortal },
  )
}

test.for([
  ['files', 'throw new Error("thread died")', /thread died/],
  ['files', 'process.exit(9)', /code 9/],
  ['read', 'throw new Error("thread died")', /thread died/],
  ['read', 'process.exit(9)', /code 9/],
  ['digest', 'throw new Error("thread died")', /thread died/],
  ['digest', 'process.exit(9)', /code 9/],
] as const)(
  'a thread that dies at a %s job by %s is told, not waited for',
  async ([kind, death, reason]) => {
    const isMortal = new Int32Array(new SharedArrayBuffer(4)).fill(1)
    await using mortal = openHashPool({
      workers: 2,
      startWorker: () => mortalWorker(kind, death, isMortal),
    })
    const place = sparse('file', 100 * MiB)
    await expect(mortal.hashFile(place)).rejects.toThrow(reason)
    // The dead is replaced, and its partner is free again.
    isMortal[0] = 0
    expect((await mortal.hashFile(place)).table.count).toBe(100)
    expect(openDescriptors(place)).toEqual([])
  },
)

test('a thread that cannot start is told', async () => {
  await using broken = openHashPool({
    startWorker: () => new Worker(new URL('file:///nowhere/worker.js')),
  })
  await expect(broken.hashFile(sparse('file', 10))).rejects.toThrow(/nowhere/)
})

test('a named pipe is refused, and not waited for', async context => {
  if (process.platform === 'win32') context.skip('no named pipes in folders on Windows')
  await mkdir(scratch.file('model'))
  execFileSync('mkfifo', [scratch.file('model/pipe')])
  await expect(findFiles([scratch.file('model')])).rejects.toThrow(/is a named pipe/)
  await expect(findFiles([scratch.file('model/pipe')])).rejects.toThrow(/is a named pipe/)
  await expect(pool.hashFile(scratch.file('model/pipe'))).rejects.toThrow(/is a named pipe/)
})

test('a socket is refused', async context => {
  if (process.platform === 'win32') context.skip('no sockets in folders on Windows')
  const place = scratch.file('socket')
  const server = createServer().listen(place)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  await expect(findFiles([scratch.path])).rejects.toThrow(/is a socket/)
  await expect(pool.hashFile(place)).rejects.toThrow(StorageError)
})

test.for([
  ['a newline', 'two\nlines', /control character/],
  ['a direction mark', 'model\u202Egpj.exe', /invisible or direction-changing/],
  ['a backslash', 'a\\b', /control character or one of/],
  ['a device of Windows', 'aux.safetensors', /device on Windows/],
  ['a form that is not NFC', 'e\u0301.bin', /NFC/],
] as const)('a name with %s is refused with the rule', async ([, name, reason]) => {
  writeFileSync(join(scratch.path, name), 'x')
  const finding = findFiles([scratch.path])
  await expect(finding).rejects.toThrow(reason)
  await expect(finding).rejects.toThrow(InvalidInputError)
  const message = await finding.catch((error: unknown) => (error as Error).message)
  expect(message).not.toMatch(/\n/)
})

test('a name that is not UTF-8 is refused, file or folder', async context => {
  const name = Buffer.concat([Buffer.from(`${scratch.path}/bad-`), Buffer.from([0xff, 0xfe])])
  try {
    writeFileSync(name, 'x')
  } catch {
    context.skip('this file system takes UTF-8 names only')
  }
  const finding = findFiles([scratch.path])
  await expect(finding).rejects.toThrow(/not valid UTF-8/)
  await expect(finding).rejects.toHaveProperty('hint', 'rename the file')
})

test('a file above the bound is refused before it is read', async context => {
  let place: string
  try {
    place = sparse('huge', 16 * TiB + 1)
  } catch {
    // ext4 stops just below.
    return context.skip('this file system takes no file of more than 16 TiB')
  }
  await expect(findFiles([place])).rejects.toThrow(LimitError)
  await expect(pool.hashFile(place)).rejects.toThrow(LimitError)
})

test('a file of 2^32 bytes has the root that its size asks for', async () => {
  const place = sparse('four-gibibytes', 2 ** 32)
  const { table, root, sha256 } = await pool.hashFile(place)
  expect(table.count).toBe(4096)
  expect(table.size).toBe(2 ** 32)
  const zeros = createHash('sha256').update(Buffer.alloc(MiB)).digest('hex')
  expect(toHex(table.digest(0))).toBe(zeros)
  expect(toHex(table.digest(4095))).toBe(zeros)
  // By openssl, of the same zeros.
  const expected = '8479e43911dc45e89f934fe48d01297e16f51d17aa561d4d1c216b1ae0fcddca'
  expect(toHex(sha256)).toBe(expected)
  expect(root.toString()).toBe(zerosRoot)
})

const zerosRoot = dagCases.find(({ name }) => name === 'zeros 2^32')?.root
