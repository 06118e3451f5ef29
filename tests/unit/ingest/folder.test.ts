/** Which files a folder consists of. */

import { chmod, link, mkdir, realpath, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { InvalidInputError, LimitError } from '../../../src/core/errors.ts'
import { findFiles, type FoundFile } from '../../../src/ingest/folder.ts'
import { ignoreRules } from '../../../src/ingest/ignore-rules.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

let root: string

beforeEach(async () => {
  const scratch = await openScratchFolder()
  onTestFinished(() => scratch[Symbol.asyncDispose]())
  root = join(scratch.path, 'model')
  await mkdir(root)
})

async function put(path: string, content = path): Promise<string> {
  const place = join(root, path)
  await mkdir(dirname(place), { recursive: true })
  await writeFile(place, content)
  return place
}

async function pathsIn(...paths: string[]): Promise<string[]> {
  const found = await findFiles(paths)
  return found.map(({ path }) => path).sort()
}

test('gives the files of one folder relative to it', async () => {
  await put('config.json', '{}')
  const place = await put('weights/model.safetensors', 'abc')
  const found = await findFiles([`${root}/`])
  expect(found.map(file => file.path)).toEqual(['config.json', 'weights/model.safetensors'])
  expect(found[1]).toMatchObject({ place, size: 3, stamp: { size: 3 } })
})

test('tells of each file once as it is found', async () => {
  for (let index = 0; index < 300; index += 1) await put(`many/${index}`)
  await put('config.json', '{}')
  const told: FoundFile[][] = []
  const found = await findFiles([join(root, 'many'), join(root, 'config.json')], {
    onFiles: files => told.push([...files]),
  })
  expect(told.length).toBeGreaterThan(2)
  expect(told.flat()).toEqual(found)
})

test('gives one file by its name', async () => {
  const place = await put('deep/model.gguf')
  expect(await findFiles([place])).toMatchObject([{ path: 'model.gguf', place }])
})

test('puts each of several paths below its own name', async () => {
  await put('one/a')
  await put('two/a')
  const file = await put('three')
  expect(await pathsIn(join(root, 'one'), join(root, 'two'), file)).toEqual([
    'one/a',
    'three',
    'two/a',
  ])
})

test('refuses two paths of one name, naming both', async () => {
  const one = await put('one/Same')
  const two = await put('two/same')
  const finding = findFiles([one, two])
  await expect(finding).rejects.toThrow(InvalidInputError)
  await expect(finding).rejects.toThrow(one)
  await expect(finding).rejects.toThrow(two)
  await expect(findFiles([one, one])).rejects.toThrow(/named twice/)
})

test('refuses two files whose names differ in case alone', async () => {
  await put('a/Model.bin')
  await put('a/model.bin')
  await expect(findFiles([root])).rejects.toThrow(/same name/)
})

test('leaves out what the rules list, unless it was named', async () => {
  await put('kept')
  await put('.cache/other/kept')
  await put('partial/kept')
  for (const { kind, name } of ignoreRules) {
    if (kind === 'folder') await put(`${name}/left-out`)
    if (kind === 'file' && name !== '.git') await put(`sub/${name}`)
    if (kind === 'suffix') await put(`model.gguf${name}`)
  }
  expect(await pathsIn(root)).toEqual(['.cache/other/kept', 'kept', 'partial/kept'])
  expect(await pathsIn(join(root, 'model.gguf.part'))).toEqual(['model.gguf.part'])
})

test('follows a link to a file inside the folder, and knows the two for one', async () => {
  root = await realpath(root)
  const place = await put('blobs/abc', 'content')
  await mkdir(join(root, 'snapshot'))
  await symlink('../blobs/abc', join(root, 'snapshot/model.bin'))
  const found = await findFiles([root])
  expect(found.map(file => file.path)).toEqual(['blobs/abc', 'snapshot/model.bin'])
  expect(found[0]?.place).toBe(place)
  expect(found[1]?.size).toBe(7)
  expect(new Set(found.map(file => file.identity)).size).toBe(1)
})

test('knows two hard links for one, and two equal files for two', async () => {
  const place = await put('a', 'content')
  await link(place, join(root, 'b'))
  await put('c', 'content')
  const [a, b, c] = await findFiles([root])
  expect(a?.identity).toBe(b?.identity)
  expect(c?.identity).not.toBe(a?.identity)
})

test.for([
  ['out of the folder', '../outside', /a link out of the folder.*outside/],
  ['to an absolute path', '/etc/hostname', /a link out of the folder, to \/etc\/hostname/],
  ['to a sibling with the same beginning', '../model-2/x', /a link out of the folder/],
  ['to a folder', 'real', /a link to a folder/],
  ['to the folder that holds it', '.', /a link/],
  ['in a circle', 'bad', /reading .*bad.*ELOOP/],
  ['to nothing', 'nowhere', /leads nowhere/],
] as const)('refuses a link %s', async ([, target, reason]) => {
  await put('real/file')
  await put('../outside')
  await put('../model-2/x')
  await symlink(target, join(root, 'bad'))
  const finding = findFiles([root])
  await expect(finding).rejects.toThrow(reason)
  await expect(finding).rejects.toHaveProperty('hint', expect.any(String))
})

test('tells what to do with the links of a hub cache', async () => {
  await put('../blobs/abc')
  await symlink('../blobs/abc', join(root, 'model.safetensors'))
  await expect(findFiles([root])).rejects.toHaveProperty('hint', expect.stringContaining('cache'))
})

test('takes a folder that was named by a link', async () => {
  await put('file')
  await symlink(root, `${root}-link`)
  expect(await pathsIn(`${root}-link`)).toEqual(['file'])
})

test('refuses a path that is not there, nothing at all, and an empty folder', async () => {
  await expect(findFiles([join(root, 'nothing')])).rejects.toThrow(/no such file or folder/)
  await expect(findFiles([join(root, 'nothing')])).rejects.toThrow(InvalidInputError)
  await expect(findFiles([])).rejects.toThrow(InvalidInputError)
  await mkdir(join(root, 'empty'))
  await expect(findFiles([root])).rejects.toThrow(/no files in/)
})

test('refuses folders deeper than any path of a manifest', async () => {
  await put(`${'d/'.repeat(40)}file`)
  await expect(findFiles([root])).rejects.toThrow(LimitError)
})

test('stops at an abort', async () => {
  await put('file')
  const reason = new Error('enough')
  await expect(findFiles([root], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
})

test('names a file that may not be read, before anything is hashed', async context => {
  if (process.getuid?.() === 0) context.skip('root may read everything')
  const place = await put('secret')
  await chmod(place, 0)
  await expect(findFiles([root])).rejects.toThrow(/reading .*secret.*EACCES/)
})
