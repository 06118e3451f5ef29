/** Where everything of one node lies. The home is mode 0700: whoever can open the socket is the user. */

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'

export interface HomePaths {
  readonly home: string
  readonly config: string
  readonly key: string
  /** Locked as long as a daemon runs on this home. */
  readonly lock: string
  /** Its process id, for people and messages: the lock decides, never this file. */
  readonly pid: string
  /** Unix socket, or named pipe on Windows. */
  readonly socket: string
  /** What can be rebuilt from the files: SQLite, synchronous=NORMAL. */
  readonly index: string
  /** What cannot: names, pins, pending pulls. SQLite, synchronous=FULL. */
  readonly state: string
  /** libp2p's datastore and the announce ledger: SQLite. */
  readonly network: string
  /** Where pulls without --to go. */
  readonly models: string
  /** Log of a daemon started in the background. */
  readonly log: string
}

/** sun_path holds 108 bytes on Linux and 104 on macOS, with the final zero. */
const socketPathBytesMax = 103

export function defaultHome(): string {
  return join(homedir(), '.commonweight')
}

/** The same home for every spelling of its path: daemon and command must meet at one socket. */
export function homePaths(folder: string): HomePaths {
  const home = resolve(folder)
  return {
    home,
    config: join(home, 'config.toml'),
    key: join(home, 'key'),
    lock: join(home, 'lock'),
    pid: join(home, 'daemon.pid'),
    socket: socketOf(home),
    index: join(home, 'index.db'),
    state: join(home, 'state.db'),
    network: join(home, 'network.db'),
    models: join(home, 'models'),
    log: join(home, 'daemon.log'),
  }
}

function socketOf(home: string): string {
  const tag = createHash('sha256').update(home).digest('hex').slice(0, 16)
  if (process.platform === 'win32') return `\\\\.\\pipe\\commonweight-${tag}`
  const inside = join(home, 'control.sock')
  if (Buffer.byteLength(inside) <= socketPathBytesMax) return inside
  // A home too deep for a socket address: a private folder of this user's in the temporary folder.
  return join(tmpdir(), `commonweight-${process.getuid?.() ?? 0}-${tag}`, 'control.sock')
}

/** The folder of the socket when that is not the home; whoever uses it checks first that it is private. */
export function socketFolder(paths: HomePaths): string | undefined {
  if (process.platform === 'win32') return undefined
  const folder = dirname(paths.socket)
  return folder === paths.home ? undefined : folder
}

/** The process id that the last daemon on this home left; it may be gone without having cleaned up. */
export async function readPid(paths: HomePaths): Promise<number | undefined> {
  const text = await readFile(paths.pid, 'utf8').catch(() => '')
  return /^\d{1,10}\n$/.test(text) ? Number(text) : undefined
}
