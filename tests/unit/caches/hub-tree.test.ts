import { writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { formatTree, readTree } from '../../../src/caches/hub-tree.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const gitOid = 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
const sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

async function read(text: string): Promise<Awaited<ReturnType<typeof readTree>>> {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('tree.json'), text)
  return await readTree(scratch.file('tree.json'))
}

test('reads what it wrote', async () => {
  const files = new Map([
    ['a.json', { size: 0, gitOid, sha256: undefined }],
    ['b/__proto__', { size: 7, gitOid, sha256 }],
  ])
  expect(await read(formatTree(files))).toEqual(files)
})

test.for([
  ['no JSON', '{'],
  ['a list', '[]'],
  ['a later version', '{"format_version":2,"files":{}}'],
  ['a size that is none', `{"format_version":1,"files":{"a":{"size":-1,"blob_id":"${gitOid}"}}}`],
  ['an oid that is none', '{"format_version":1,"files":{"a":{"size":1,"blob_id":"x"}}}'],
  [
    'a SHA-256 that is none',
    `{"format_version":1,"files":{"a":{"size":1,"blob_id":"${gitOid}","lfs_sha256":"x"}}}`,
  ],
])('knows nothing by %s', async ([, text = '']) => {
  expect(await read(text)).toBeUndefined()
})
