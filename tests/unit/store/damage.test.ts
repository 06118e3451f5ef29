import { rm, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { damageWarnings } from '../../../src/store/damage.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

test('warns of the newest damaged file of each database until it is deleted', async () => {
  await using scratch = await openScratchFolder()
  const paths = { state: scratch.file('state.db'), index: scratch.file('index.db') }
  expect(damageWarnings(paths)).toEqual([])
  for (const name of ['state.db', 'state.db.backup', 'state.db-wal', 'network.db.damaged-1']) {
    await writeFile(scratch.file(name), '')
  }
  expect(damageWarnings(paths)).toEqual([])

  for (const time of [1795552964766, 1795552964767]) {
    await writeFile(`${paths.state}.damaged-${time}`, '')
    await writeFile(`${paths.state}.damaged-${time}-wal`, '')
  }
  await writeFile(`${paths.index}.damaged-1795552964768`, '')
  const [state, index, ...more] = damageWarnings(paths)
  expect(state).toMatch(
    /names and pins may be missing.* delete .*state\.db\.damaged-1795552964767$/,
  )
  expect(index).toMatch(/hashed again.* delete .*index\.db\.damaged-1795552964768$/)
  expect(more).toEqual([])

  await rm(`${paths.index}.damaged-1795552964768`)
  expect(damageWarnings(paths)).toHaveLength(1)
})

test('says nothing where there is no home', () => {
  expect(damageWarnings({ state: '/nowhere/state.db', index: '/nowhere/index.db' })).toEqual([])
})
