/** The scripts of a clone, which run before there is a Node of ours: what they refuse and what they say. */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'

const root = join(import.meta.dirname, '../..')

/** A folder with the scripts and the lockfile, and nothing installed. */
async function openClone(): Promise<ScratchFolder> {
  const clone = await openScratchFolder()
  await cp(join(root, 'scripts'), clone.file('scripts'), { recursive: true })
  await cp(join(root, 'package-lock.json'), clone.file('package-lock.json'))
  return clone
}

test('setup does not empty the folder that node_modules is a link to', async () => {
  await using clone = await openClone()
  await mkdir(clone.file('shared'))
  await writeFile(clone.file('shared/precious'), '')
  await symlink(clone.file('shared'), clone.file('node_modules'))
  const { promise, resolve } = Promise.withResolvers<{ code: unknown; stderr: string }>()
  execFile('sh', [clone.file('scripts/setup.sh')], (error, _, stderr) =>
    resolve({ code: error?.code, stderr }),
  )
  const { code, stderr } = await promise
  expect(code).toBe(1)
  expect(stderr).toContain(`node_modules is a link to ${clone.file('shared')}`)
  expect(stderr).toContain('hint: rm node_modules')
  expect(await readdir(clone.file('shared'))).toEqual(['precious'])
})

test('a script that waits for another says so once, and goes on when that has ended', async () => {
  await using clone = await openClone()
  const lock = clone.file('.cache/build.lock')
  await mkdir(lock, { recursive: true })
  await writeFile(join(lock, 'pid'), `${process.pid}\n`)
  const script = ". scripts/lock.sh; lock build 'builds dist/'; echo mine"
  const waiting = spawn('sh', ['-c', script], {
    cwd: clone.path,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  let out = ''
  waiting.stdout.on('data', (text: Buffer) => (out += text.toString()))
  waiting.stderr.on('data', (text: Buffer) => (said += text.toString()))
  await once(waiting.stderr, 'data')
  expect(out).toBe('')
  await rm(lock, { recursive: true })
  await once(waiting, 'close')
  expect(out).toBe('mine\n')
  expect(said).toBe(`commonweight: waiting for process ${process.pid}, which builds dist/\n`)
})
