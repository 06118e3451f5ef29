/** A git clone of a hub's repository as Git LFS leaves it, made by git itself. */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

export interface CloneFile {
  readonly bytes: Uint8Array
  /** file: in the working tree, as after a pull. objects: a pointer is there, and the file among LFS's own. */
  readonly lfs?: 'file' | 'objects'
}

/** Returns the commit. */
export async function makeClone(
  folder: string,
  files: Readonly<Record<string, CloneFile>>,
  origin: string,
): Promise<string> {
  await mkdir(folder, { recursive: true })
  const git = gitIn(folder)
  git('init', '-q', '-b', 'main')
  git('remote', 'add', 'origin', origin)
  for (const [path, { bytes, lfs }] of Object.entries(files)) {
    await write(join(folder, path), lfs === undefined ? bytes : Buffer.from(pointerOf(bytes)))
  }
  git('add', '-A')
  git('commit', '-q', '-m', 'all of it')
  for (const [path, { bytes, lfs }] of Object.entries(files)) {
    const sha256 = sha256Of(bytes)
    const object = join(folder, '.git/lfs/objects', sha256.slice(0, 2), sha256.slice(2, 4), sha256)
    if (lfs === 'file') await write(join(folder, path), bytes)
    if (lfs === 'objects') await write(object, bytes)
  }
  return git('rev-parse', 'HEAD').trim()
}

export function gitIn(folder: string): (...args: string[]) => string {
  const who = ['-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'commit.gpgsign=false']
  return (...args) =>
    execFileSync('git', ['-C', folder, ...who, ...args], {
      encoding: 'utf8',
      env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' },
    })
}

function pointerOf(bytes: Uint8Array): string {
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256Of(bytes)}\nsize ${bytes.length}\n`
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function write(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, bytes)
}
