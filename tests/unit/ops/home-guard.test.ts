import { mkdir, symlink } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { refuseHome } from '../../../src/ops/home-guard.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

test('refuses the home, what lies in it and what contains it, wherever a link leads', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  const modelsFolder = scratch.file('home/models')
  await mkdir(modelsFolder, { recursive: true })
  await symlink(home, scratch.file('link'))
  for (const path of ['home', 'home/config.toml', 'link', 'link/not/there/yet', '.']) {
    await expect(refuseHome({ home, modelsFolder }, scratch.file(path))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    })
  }
})

test('lets pass what is elsewhere, and the models folder', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  const modelsFolder = scratch.file('home/models')
  await mkdir(modelsFolder, { recursive: true })
  for (const path of ['elsewhere/new', 'homely', 'home/models/org/model']) {
    await expect(refuseHome({ home, modelsFolder }, scratch.file(path))).resolves.toBeUndefined()
  }
})
