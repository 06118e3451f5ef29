import { rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { isClone, openClone, repoOfUrl } from '../../../src/hub/clone.ts'
import { gitIn, makeClone } from '../../support/git-clone.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

/** What a node is handed for git. */
const env = { PATH: process.env['PATH'] ?? '' }
const options = { signal: new AbortController().signal, env }

test.for([
  ['https://huggingface.co/org/model', { type: 'model', repo: 'org/model' }],
  ['https://user:hf_x@huggingface.co/org/model.git', { type: 'model', repo: 'org/model' }],
  ['https://huggingface.co/datasets/org/d/', { type: 'dataset', repo: 'org/d' }],
  ['git@hf.co:org/model', { type: 'model', repo: 'org/model' }],
  ['ssh://git@hf.co/spaces/org/s', { type: 'space', repo: 'org/s' }],
  ['https://github.com/org/model', undefined],
  ['https://huggingface.co.example.org/org/model', undefined],
  ['', undefined],
] as const)('knows the hub of %j', ([url, expected]) => {
  expect(repoOfUrl(url)).toEqual(expected)
})

test('lists a commit as the hub would, pointers of LFS as what they stand for', async () => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  const bytes = Buffer.alloc(5000, 7)
  const commit = await makeClone(
    folder,
    { 'a b/c.txt': { bytes: Buffer.from('c') }, 'w.bin': { bytes, lfs: 'file' } },
    'https://huggingface.co/org/model',
  )
  const clone = await openClone(folder, undefined, options)
  expect(clone).toMatchObject({ commit, repo: { type: 'model', repo: 'org/model' } })
  expect(clone.files).toMatchObject([
    { path: 'a b/c.txt', size: 1, sha256: undefined },
    { path: 'w.bin', size: 5000, sha256: expect.stringMatching(/^[0-9a-f]{64}$/u) },
  ])
  await expect(openClone(folder, 'v9', options)).rejects.toThrow('does not have v9')
})

test('refuses what git was told to show instead of the commit', async () => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  await makeClone(folder, { a: { bytes: Buffer.from('a') }, b: { bytes: Buffer.from('bb') } }, 'x')
  const git = gitIn(folder)
  const tree = git('rev-parse', 'HEAD^{tree}').trim()
  await writeFile(join(folder, 'b'), 'other')
  git('add', '-A')
  git('replace', tree, git('write-tree').trim())
  await expect(openClone(folder, undefined, options)).rejects.toThrow('damaged')
  git('replace', '-d', tree)
  expect((await openClone(folder, undefined, options)).files).toHaveLength(2)
})

test('tells a folder that is not there from one without git', async () => {
  await using scratch = await openScratchFolder()
  expect(await isClone(scratch.path)).toBe(false)
  await expect(isClone(scratch.file('nope'))).rejects.toThrow('is not there')
})

test('refuses links', async () => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  await makeClone(folder, { a: { bytes: Buffer.from('a') } }, 'x')
  await symlink('a', join(folder, 'b'))
  const git = gitIn(folder)
  git('add', '-A')
  git('commit', '-q', '-m', 'link')
  await expect(openClone(folder, undefined, options)).rejects.toThrow('symbolic link')
})

test.for([
  ['extensions.partialClone', 'origin'],
  ['remote.other.promisor', 'true'],
] as const)('runs nothing of a clone that lacks objects (%s)', async ([key, value]) => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  await makeClone(folder, { a: { bytes: Buffer.from('a') } }, 'ssh://git@huggingface.co/org/evil')
  const git = gitIn(folder)
  const oid = git('rev-parse', 'HEAD:a').trim()
  await rm(join(folder, '.git/objects', oid.slice(0, 2), oid.slice(2)))
  const mark = scratch.file('ran')
  git('config', 'remote.other.url', 'ssh://git@huggingface.co/org/evil')
  git('config', 'protocol.ssh.allow', 'always')
  git('config', 'core.sshCommand', `touch ${mark};`)
  git('config', 'core.repositoryFormatVersion', '1')
  git('config', key, value)
  await expect(openClone(folder, undefined, options)).rejects.toThrow('partial clone')
  await expect(stat(mark)).rejects.toThrow('ENOENT')
})

test('gives git nothing of the environment that tells it where to look or what to run', async () => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  const commit = await makeClone(folder, { a: { bytes: Buffer.from('a') } }, 'x')
  const hostile = {
    GIT_DIR: scratch.file('elsewhere'),
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'remote.x.promisor',
    GIT_CONFIG_VALUE_0: 'true',
  }
  for (const [name, value] of Object.entries(hostile)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
  expect(await openClone(folder, undefined, options)).toMatchObject({ commit })
  const given = { ...options, env: { ...env, ...hostile } }
  expect(await openClone(folder, undefined, given)).toMatchObject({ commit })
})

test('runs the git that it is handed, and not that of its own environment', async () => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  await makeClone(folder, { a: { bytes: Buffer.from('a') } }, 'x')
  const nowhere = { ...options, env: { PATH: scratch.file('nowhere') } }
  await expect(openClone(folder, undefined, nowhere)).rejects.toThrow('git cannot be run')
})
