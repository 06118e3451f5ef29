/** Paths and names on the real file system. */

import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { InvalidInputError, StorageError } from '../../../src/core/errors.ts'
import {
  asStorageError,
  isInside,
  moveIntoPlace,
  openFolder,
  splitPlace,
} from '../../../src/store/files.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

test('splits a place below its folder', () => {
  expect(splitPlace('/models', '/models/a.bin')).toEqual({ names: [], name: 'a.bin' })
  expect(splitPlace('/models', '/models/x/y/a.bin')).toEqual({ names: ['x', 'y'], name: 'a.bin' })
  expect(splitPlace('/models', '/models/..x')).toEqual({ names: [], name: '..x' })
})

test.for([
  ['/models', '/models'],
  ['/models', '/other/a.bin'],
  ['/models', '/models/../other/a.bin'],
  ['/models', '/modelsother/a.bin'],
  ['models', 'models/a.bin'],
  ['/models', 'a.bin'],
] as const)('refuses in %s the place %s', ([folder, place]) => {
  expect(() => splitPlace(folder, place)).toThrow(InvalidInputError)
})

test('says that a file is where the folder should be, and leaves it', async () => {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('taken'), 'mine')
  for (const base of [scratch.file('taken'), scratch.file('taken/a/b')]) {
    await expect(openFolder(base, ['x'])).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringContaining(base),
      hint: expect.stringContaining('in the way'),
    })
  }
  expect(await readFile(scratch.file('taken'), 'utf8')).toBe('mine')
})

test('makes folders that are missing and follows no link below the base', async () => {
  await using scratch = await openScratchFolder()
  {
    await using folder = await openFolder(scratch.file('base'), ['a', 'b'])
    await writeFile(folder.at('file'), 'x')
    await folder.sync()
  }
  expect(await readFile(scratch.file('base/a/b/file'), 'utf8')).toBe('x')
  await mkdir(scratch.file('outside'))
  await symlink(scratch.file('outside'), scratch.file('base/link'))
  await expect(openFolder(scratch.file('base'), ['link'])).rejects.toThrow(StorageError)
  await expect(openFolder(scratch.file('base'), ['link', 'c'])).rejects.toThrow(StorageError)
  // The base itself is the user's choice.
  await symlink(scratch.file('base'), scratch.file('base.link'))
  await using folder = await openFolder(scratch.file('base.link'), ['a'])
  await writeFile(folder.at('other'), 'y')
  expect(await readdir(scratch.file('base/a'))).toEqual(['b', 'other'])
})

test('takes a name that is free, and only then', async () => {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('new'), 'new')
  await writeFile(scratch.file('old'), 'old')
  expect(await moveIntoPlace(scratch.file('new'), scratch.file('old'))).toBe(false)
  expect(await readFile(scratch.file('old'), 'utf8')).toBe('old')
  expect(await moveIntoPlace(scratch.file('new'), scratch.file('free'))).toBe(true)
  expect(await readFile(scratch.file('free'), 'utf8')).toBe('new')
})

test('knows inside from outside with links resolved', async () => {
  await using scratch = await openScratchFolder()
  await mkdir(scratch.file('models/m'), { recursive: true })
  await mkdir(scratch.file('outside'))
  await symlink(scratch.file('outside'), scratch.file('models/link'))
  expect(await isInside(scratch.file('models'), scratch.file('models/m'))).toBe(true)
  expect(await isInside(scratch.file('models'), scratch.file('models'))).toBe(false)
  expect(await isInside(scratch.file('models'), scratch.file('models/link'))).toBe(false)
  expect(await isInside(scratch.file('models'), scratch.file('models/gone'))).toBe(false)
})

test('says what to do about a full disk, and leaves other errors as they are', () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
  })
  const error = asStorageError('writing /x', full)
  expect(error).toBeInstanceOf(StorageError)
  expect(error).toMatchObject({
    message: 'writing /x: ENOSPC: no space left on device',
    hint: expect.stringContaining('free some space'),
    cause: full,
  })
  const bug = new TypeError('a bug')
  expect(asStorageError('writing /x', bug)).toBe(bug)
})
