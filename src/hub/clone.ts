/**
 * A git clone of a hub's repository: the files of a commit, proven by git's own names. The tree is built
 * again from what it lists and compared with the commit, whose name is the hash of all of it. Git is asked
 * for objects alone; nothing of the clone is run. docs/spec/mirroring.md, section 7.
 */

import { spawn } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import {
  IntegrityError,
  InvalidInputError,
  LimitError,
  NotFoundError,
  StorageError,
  systemCode,
} from '../core/errors.ts'
import { gitOid } from '../core/git.ts'
import { MiB } from '../core/units.ts'
import { manifestFilesMax } from '../manifest/manifest.ts'
import { isGitOid } from '../manifest/source.ts'
import {
  type LfsPointer,
  parsePointer,
  pointerBytesMax,
  type TreeFile,
  treeOfCommit,
  treeOid,
} from './git.ts'
import type { HubFile } from './answers.ts'
import { type HubRepo, parseHubRef } from './ref.ts'

export interface Clone {
  readonly commit: string
  /** All files of the commit, as a hub lists them. */
  readonly files: readonly HubFile[]
  /** Undefined when it was cloned from something that is no hub. */
  readonly repo: HubRepo | undefined
  /** Where Git LFS keeps a file that the working tree has as a pointer. */
  readonly lfsPlace: (sha256: string) => string
}

export interface CloneOptions {
  readonly signal: AbortSignal
  /** What git needs to be found, and to know its user. */
  readonly env: Readonly<Record<string, string>>
}

/** A list of 100,000 files with long paths. */
const outputBytesMax = 64 * MiB
/** Blobs asked for at a time: 1 MiB of pointers. */
const blobsAtOnce = 1000

export async function isClone(folder: string): Promise<boolean> {
  try {
    await stat(join(folder, '.git'))
    return true
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return refuseAbsent(folder)
    throw new StorageError(`looking for a git clone in ${folder}`, { cause: error })
  }
}

/** What is not there is no folder without git. */
async function refuseAbsent(folder: string): Promise<false> {
  try {
    await stat(folder)
    return false
  } catch (error) {
    throw new NotFoundError(`${folder} is not there`, {
      cause: error,
      hint: 'name a folder of the machine that the daemon runs on',
    })
  }
}

/** IntegrityError when the clone's objects are not what their names say; `revision` is HEAD when left out. */
export async function openClone(
  folder: string,
  revision: string | undefined,
  options: CloneOptions,
): Promise<Clone> {
  const git = gitOf(folder, options)
  refusePromises(folder, await git(['config', '--list', '-z']))
  const found = await git(['rev-parse', '--verify', '--quiet', `${revision ?? 'HEAD'}^{commit}`])
  const commit = found.toString('latin1').trim()
  if (!isGitOid(commit)) {
    throw new InvalidInputError(`the clone ${folder} does not have ${revision ?? 'a commit'}`, {
      hint: 'fetch it with git, or name the commit that is checked out',
    })
  }
  const entries = parseTree(await git(['ls-tree', '-r', '-l', '-z', '--full-tree', commit]))
  checkProof(commit, await git(['cat-file', 'commit', commit]), entries)
  const pointers = await readPointers(git, entries)
  const gitFolder = (await git(['rev-parse', '--git-common-dir'])).toString('utf8').trim()
  const url = (await git(['config', '--get', 'remote.origin.url'])).toString('utf8').trim()
  return {
    commit,
    files: entries.map(({ path, oid, size }) => {
      const pointer = pointers.get(oid)
      return {
        path,
        gitOid: oid,
        size: pointer?.size ?? size,
        sha256: pointer?.sha256,
        xetHash: undefined,
      }
    }),
    repo: repoOfUrl(url),
    lfsPlace: sha256 => {
      const parts = [sha256.slice(0, 2), sha256.slice(2, 4), sha256]
      return join(resolve(folder, gitFolder), 'lfs', 'objects', ...parts)
    },
  }
}

/** `https://huggingface.co/datasets/org/name.git`, `git@hf.co:org/name`. */
export function repoOfUrl(url: string): HubRepo | undefined {
  const found =
    /^(?:https:\/\/(?:[^@/\s]+@)?(?:huggingface\.co|hf\.co)\/|(?:ssh:\/\/)?git@(?:huggingface\.co|hf\.co)[:/])(.{1,300}?)(?:\.git)?\/?$/u.exec(
      url,
    )
  const path = found?.[1]
  if (path === undefined) return undefined
  try {
    const { type, repo } = parseHubRef(`hf:${path}`)
    return { type, repo }
  } catch {
    return undefined
  }
}

interface Entry extends TreeFile {
  readonly size: number
}

function parseTree(listed: Buffer): Entry[] {
  const lines = listed.toString('utf8').split('\0').slice(0, -1)
  if (lines.length > manifestFilesMax) {
    throw new LimitError(
      `the commit has ${lines.length} files; at most ${manifestFilesMax} allowed`,
    )
  }
  return lines.map(line => {
    const [, mode, kind, oid, size, path] =
      /^(\d{6}) (\w+) ([0-9a-f]{40}) +(\d+|-)\t(.+)$/su.exec(line) ?? []
    if (mode === undefined || oid === undefined || path === undefined) {
      throw new InvalidInputError(`git lists what is not understood: ${line.slice(0, 200)}`)
    }
    if (kind !== 'blob' || mode === '120000') {
      const what = kind === 'blob' ? 'a symbolic link' : 'a submodule'
      throw new InvalidInputError(`${path} is ${what}: such a commit cannot be imported`, {
        hint: 'commonweight seed shares the folder as it is',
      })
    }
    return { path, mode, oid, size: Number(size) }
  })
}

function checkProof(commit: string, object: Buffer, entries: readonly Entry[]): void {
  const isProven = gitOid('commit', object) === commit && treeOfCommit(object) === treeOid(entries)
  if (isProven) return
  throw new IntegrityError(`the clone is damaged: what it lists is not the commit ${commit}`, {
    hint: 'run git fsck in it, or clone it again',
  })
}

/** By the oid of the blob; blobs that are no pointers are left out. */
async function readPointers(git: Git, entries: readonly Entry[]): Promise<Map<string, LfsPointer>> {
  const small = entries.filter(({ size }) => size < pointerBytesMax).map(({ oid }) => oid)
  const oids = [...new Set(small)]
  const pointers = new Map<string, LfsPointer>()
  for (let start = 0; start < oids.length; start += blobsAtOnce) {
    const asked = oids.slice(start, start + blobsAtOnce)
    const answer = await git(['cat-file', '--batch'], `${asked.join('\n')}\n`)
    for (const [oid, bytes] of parseBatch(answer)) {
      const pointer = parsePointer(bytes)
      if (pointer === undefined) continue
      if (gitOid('blob', bytes) !== oid) {
        throw new IntegrityError(`the clone is damaged: the blob ${oid} has other bytes`)
      }
      pointers.set(oid, pointer)
    }
  }
  return pointers
}

/** `OID blob SIZE\nBYTES\n`, again and again. */
function* parseBatch(answer: Buffer): Generator<readonly [oid: string, bytes: Buffer]> {
  for (let at = 0; at < answer.length;) {
    const end = answer.indexOf('\n', at)
    const head = answer.toString('latin1', at, end)
    const [, oid, size] = /^([0-9a-f]{40}) blob (\d+)$/u.exec(head) ?? []
    if (oid === undefined) throw new IntegrityError(`the clone lacks an object: ${head}`)
    const start = end + 1
    yield [oid, answer.subarray(start, start + Number(size))]
    at = start + Number(size) + 1
  }
}

/**
 * Of a clone that lacks objects git asks a remote, by a program that the clone's own configuration names.
 * Git before 2.45 has no switch for that, so that such a clone is not read at all.
 */
function refusePromises(folder: string, listed: Buffer): void {
  const keys = listed
    .toString('utf8')
    .split('\0')
    .map(setting => setting.split('\n', 1)[0]?.toLowerCase() ?? '')
  const promise = keys.find(key => /^extensions\.partialclone$|^remote\..*\.promisor$/su.test(key))
  if (promise === undefined) return
  throw new InvalidInputError(`${folder} is a partial clone: git would fetch what it lacks`, {
    hint: 'clone it again without --filter, or mirror the commit with commonweight mirror',
  })
}

type Git = (args: readonly string[], input?: string) => Promise<Buffer>

/** A clone's configuration may name programs: what reading objects would run is turned off. */
const safeOptions = [
  ['core.fsmonitor', 'false'],
  ['core.hooksPath', '/dev/null'],
  ['core.sshCommand', 'false'],
  ['core.askPass', 'false'],
  ['credential.helper', ''],
  ['protocol.allow', 'never'],
].flatMap(([key, value]) => ['-c', `${key}=${value}`])

/** Whoever started us does not tell git where to look or what to run, and there is no way out, whatever the configuration allows. */
function environmentOf(folder: string, given: CloneOptions['env']): NodeJS.ProcessEnv {
  const kept = Object.entries(given).filter(([name]) => !name.toUpperCase().startsWith('GIT_'))
  return {
    ...Object.fromEntries(kept),
    LC_ALL: 'C',
    // Only this one overrules a protocol.NAME.allow of the clone: no protocol has this name.
    GIT_ALLOW_PROTOCOL: 'none',
    GIT_PROTOCOL_FROM_USER: '0',
    GIT_NO_LAZY_FETCH: '1',
    GIT_SSH_COMMAND: 'false',
    GIT_ASKPASS: 'false',
    GIT_TERMINAL_PROMPT: '0',
    // A folder whose .git is none is not taken for a part of what lies around it.
    GIT_CEILING_DIRECTORIES: dirname(resolve(folder)),
  }
}

/** What git prints; nothing when it found nothing (code 1). */
function gitOf(folder: string, { env, signal }: CloneOptions): Git {
  const safe = [...safeOptions, '--no-optional-locks', '--no-pager']
  return async (args, input = '') => {
    const child = spawn('git', ['-C', folder, ...safe, ...args], {
      signal,
      env: environmentOf(folder, env),
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const parts: Buffer[] = []
    let length = 0
    let said = ''
    child.stdout.on('data', (part: Buffer) => {
      length += part.length
      if (length <= outputBytesMax) parts.push(part)
      else child.kill()
    })
    child.stderr.on('data', (part: Buffer) => (said = `${said}${part.toString()}`.slice(0, 2000)))
    // Gone before it read all: its exit code says why.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    const code = await exitOf(child, signal)
    if (length > outputBytesMax) throw new LimitError(`git ${args[0] ?? ''} says more than 64 MiB`)
    if (code === 0 || code === 1) return Buffer.concat(parts)
    throw new InvalidInputError(`git cannot read ${folder}: ${said.trim().split('\n')[0] ?? ''}`, {
      hint: 'is it a git clone, and does it belong to the user of this daemon?',
    })
  }
}

function exitOf(child: ReturnType<typeof spawn>, signal: AbortSignal): Promise<number | null> {
  return new Promise((done, reject) => {
    child.once('error', error => {
      if (signal.aborted) reject(signal.reason as Error)
      else {
        reject(
          new InvalidInputError(`git cannot be run: ${error.message}`, {
            cause: error,
            hint: 'install git to import a clone',
          }),
        )
      }
    })
    child.once('close', done)
  })
}
