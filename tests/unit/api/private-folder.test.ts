import { stat, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { makePrivateFolder } from '../../../src/api/private-folder.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

test('makes a folder and those above it, each for this user alone', async () => {
  await using scratch = await openScratchFolder()
  await makePrivateFolder(scratch.file('a/b/c'))
  for (const path of ['a', 'a/b', 'a/b/c']) {
    expect((await stat(scratch.file(path))).mode & 0o777).toBe(0o700)
  }
  await makePrivateFolder(scratch.file('a/b/c'))
})

test('says that a file is in the way', async () => {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('file'), '')
  for (const path of ['file', 'file/below']) {
    const made = makePrivateFolder(scratch.file(path))
    await expect(made).rejects.toMatchObject({
      code: 'STORAGE',
      hint: expect.anything() as unknown,
    })
  }
})

test.runIf(process.platform === 'linux')(
  'ends where a parent answers that it is not there',
  async () => {
    await expect(makePrivateFolder('/proc/none/below')).rejects.toMatchObject({ code: 'STORAGE' })
  },
)
