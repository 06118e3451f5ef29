/**
 * The home of a daemon: made private, and locked, before anything in it is read.
 *
 * The lock is an exclusive transaction on an empty SQLite file. The operating system holds it for the
 * process and lets go of it however the process ends, so there is no stale lock to recognise: kill -9,
 * a power cut and a pid that was given to another program need no rule. The pid file beside it only
 * tells people who holds the lock.
 */

import { chmod, lstat, rename, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import { readPid, socketFolder } from '../src/api/home.ts'
import type { HomePaths } from '../src/api/home.ts'
import { checkPrivate, makePrivateFolder } from '../src/api/private-folder.ts'
import type { Clock } from '../src/core/clock.ts'
import { ConflictError, StorageError, systemCode } from '../src/core/errors.ts'
import { second } from '../src/core/units.ts'

/** Two that start at once can both see the other half-way to the lock: each tries again for so long. */
const lockWaitMs = 500
/** SQLITE_BUSY: another process holds the lock. */
const sqliteBusy = 5

/** Makes the home if there is none; refuses one that others can read. */
export async function prepareHome(paths: HomePaths): Promise<void> {
  await makePrivate(paths.home, { follow: true })
}

/**
 * Locks the home until disposed. ConflictError with the pid of the daemon that has it. Nothing else in
 * this process may open the lock file: closing any handle of it would end the lock (POSIX fcntl).
 */
export async function lockHome(paths: HomePaths): Promise<AsyncDisposable> {
  const lock = await takeLock(paths)
  await using opening = new AsyncDisposableStack()
  opening.defer(() => lock.close())
  // Where locks do not work (NFS, some FUSE mounts) this is how a daemon that lives is noticed.
  if (await isAnswered(paths.socket)) throw await inUse(paths)
  opening.defer(() => rm(paths.pid, { force: true }))
  await writePid(paths.pid)
  return opening.move()
}

async function takeLock(paths: HomePaths): Promise<DatabaseSync> {
  let lock: DatabaseSync | undefined
  try {
    lock = new DatabaseSync(paths.lock, { timeout: lockWaitMs })
    // Nothing is ever written, so there is nothing to roll back and no journal to leave behind.
    lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    await chmod(paths.lock, 0o600)
    return lock
  } catch (error) {
    lock?.close()
    if (!isBusy(error)) throw new StorageError(`locking ${paths.lock}`, { cause: error })
    throw await inUse(paths)
  }
}

async function inUse(paths: HomePaths): Promise<ConflictError> {
  const pid = await readPid(paths)
  const who = pid === undefined ? 'another daemon' : `a daemon with process id ${pid}`
  return new ConflictError(`${who} is running on ${paths.home}`, {
    hint: 'use it as it is, stop it with commonweight stop, or choose another --home',
  })
}

function isBusy(error: unknown): boolean {
  return Error.isError(error) && 'errcode' in error && error.errcode === sqliteBusy
}

/** Whole or not at all, so that nobody reads half a number. */
async function writePid(path: string): Promise<void> {
  await writeFile(`${path}.tmp`, `${process.pid}\n`, { mode: 0o600 })
  await rename(`${path}.tmp`, path)
}

/** A person who deletes a folder looks again within seconds; a stat costs nothing. */
const lookEveryMs = 5 * second

/**
 * Returns when another folder, or none, is where the home was: nobody can reach this daemon any more, and
 * what it would write is lost. Rejects when the signal aborts.
 */
export async function untilGone(home: string, clock: Clock, signal: AbortSignal): Promise<void> {
  const first = await identityOf(home)
  for (;;) {
    await clock.sleep(lookEveryMs, signal)
    const now = await identityOf(home)
    if (now !== first && now !== 'hidden') return
  }
}

/** Which folder it is; hidden when it cannot be looked at, as while a disk is away. */
async function identityOf(home: string): Promise<string> {
  try {
    const { dev, ino } = await stat(home, { bigint: true })
    return `${dev}/${ino}`
  } catch (error) {
    const code = systemCode(error)
    return code === 'ENOENT' || code === 'ENOTDIR' ? 'gone' : 'hidden'
  }
}

/**
 * Makes way for the control socket: its folder, and no socket of a daemon that died. Only who holds
 * the lock may do this.
 */
export async function clearSocket(paths: HomePaths): Promise<void> {
  if (process.platform === 'win32') return
  const folder = socketFolder(paths)
  if (folder !== undefined) await makePrivate(folder, { follow: false })
  try {
    const stats = await lstat(paths.socket)
    if (!stats.isSocket()) throw notOurs(paths.socket)
    await rm(paths.socket)
  } catch (error) {
    if (error instanceof StorageError) throw error
    if (systemCode(error) === 'ENOENT') return
    throw new StorageError(`removing the socket ${paths.socket}`, { cause: error })
  }
}

/** Whether a process listens there; one that is stopped or busy does too. */
function isAnswered(socket: string): Promise<boolean> {
  return new Promise(resolve => {
    const attempt = connect(socket)
    const settle = (answered: boolean): void => {
      attempt.destroy()
      resolve(answered)
    }
    attempt.once('connect', () => settle(true))
    attempt.once('error', error => settle(systemCode(error) === 'EAGAIN'))
  })
}

function notOurs(path: string): StorageError {
  return new StorageError(`${path} is in the way: it is not a socket`, {
    hint: `move it away: mv ${path} ${path}.old`,
  })
}

async function makePrivate(path: string, options: { follow: boolean }): Promise<void> {
  try {
    // An existing folder keeps its mode: what is wrong with it is the owner's to decide.
    await makePrivateFolder(path)
    await checkPrivate(path, options)
  } catch (error) {
    if (error instanceof StorageError) throw error
    throw new StorageError(`making the folder ${path}`, { cause: error })
  }
}
