import { rm, symlink, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { StorageError } from '../../../src/core/errors.ts'
import { syncFiles } from '../../../src/store/sync-files.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

test.for([1, 40])('syncs %i files, and misses none that was deleted since', async count => {
  await using scratch = await openScratchFolder()
  const places = Array.from({ length: count }, (_, index) => scratch.file(`${index}`))
  for (const place of places) await writeFile(place, 'x')
  await rm(places[0] ?? '')
  await expect(syncFiles(scratch.path, places)).resolves.toBeUndefined()
})

test('does it file by file where the command is not found', async () => {
  await using scratch = await openScratchFolder()
  const places = Array.from({ length: 40 }, (_, index) => scratch.file(`${index}`))
  for (const place of places) await writeFile(place, 'x')
  const { PATH } = process.env
  process.env['PATH'] = scratch.path
  try {
    await syncFiles(scratch.path, places)
    // A link is never followed: that it is told shows that each was looked at.
    await rm(places[7] ?? '')
    await symlink(places[8] ?? '', places[7] ?? '')
    await expect(syncFiles(scratch.path, places)).rejects.toThrow(StorageError)
  } finally {
    process.env['PATH'] = PATH
  }
})
