/** What we compute is what git computes of the same files. */

import { execFileSync } from 'node:child_process'
import { writeFile, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { commitOf, pointerText } from '../../../src/manifest/git-commit.ts'
import { fromHex } from '../../../src/core/bytes.ts'
import { rawCid } from '../../../src/core/cid.ts'
import { sha256 } from '../../../src/core/digest.ts'
import { makeManifest } from '../../../src/manifest/manifest.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

function filesNamed(...paths: string[]): ReturnType<typeof makeManifest>['files'] {
  const files = paths.map(path => {
    const digest = sha256(Buffer.from(path))
    return { path, size: Buffer.byteLength(path), sha256: digest, root: rawCid(digest) }
  })
  return makeManifest(files).files
}

test('names trees, pointers and the commit as git does', async () => {
  // `a.b` sorts before the folder `a`, and `a0` after it: git compares `a/`.
  const files = filesNamed('a/x.bin', 'a.b', 'a0', 'z/y/x.json', 'Ümlaut.txt', '.gitattributes')
  const manifest = 'bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje'
  const commit = commitOf(files, manifest)
  await using scratch = await openScratchFolder()
  const folder = scratch.file('clone')
  for (const entry of commit.entries.values()) {
    if (entry.kind !== 'file') continue
    await mkdir(dirname(join(folder, entry.path)), { recursive: true })
    await writeFile(join(folder, entry.path), pointerText(entry))
  }
  const who = { NAME: 'Commonweight', EMAIL: 'commonweight@invalid', DATE: '1970-01-01T00:00:00Z' }
  const env = Object.fromEntries(
    ['AUTHOR', 'COMMITTER'].flatMap(role =>
      Object.entries(who).map(([key, value]) => [`GIT_${role}_${key}`, value]),
    ),
  )
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', folder, '-c', 'core.quotePath=false', ...args], {
      encoding: 'utf8',
      env: { ...process.env, ...env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  git('init', '--object-format=sha1')
  git('add', '--all', '--force')
  git('commit', '--no-gpg-sign', '--message', manifest)
  expect(commit.id).toBe(git('rev-parse', 'HEAD').trim())
  const listed = git('ls-tree', '-r', '-t', '-z', 'HEAD')
    .split('\0')
    .filter(line => line !== '')
    .map(line => line.slice(line.indexOf(' ') + 1).replace(/^(?:blob|tree) /, ''))
  const ours = [...commit.entries].map(([path, { oid }]) => `${oid}\t${path}`)
  expect(ours.toSorted()).toEqual(listed.toSorted())
})

test('depends on the manifest and on nothing else', () => {
  const files = filesNamed('config.json')
  expect(commitOf(files, 'a').id).toBe(commitOf(files, 'a').id)
  expect(commitOf(files, 'a').id).not.toBe(commitOf(files, 'b').id)
  expect(commitOf(files, 'a').id).toMatch(/^[0-9a-f]{40}$/)
})

test('writes the pointer that Git LFS writes', () => {
  const digest = '4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393'
  expect(fromHex(digest)).toHaveLength(32)
  // The example of the Git LFS specification.
  expect(pointerText({ sha256: digest, size: 12345 })).toBe(
    'version https://git-lfs.github.com/spec/v1\n' +
      'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n' +
      'size 12345\n',
  )
})

test('a model of a hub has the commit and the names of its manifest', () => {
  const source = {
    hub: 'huggingface.co',
    repo: 'org/m',
    type: 'model',
    commit: 'ab'.repeat(20),
  } as const
  const files = filesNamed('a.bin', 'b/c.json')
  const named = files.map((file, at) => ({
    ...file,
    gitOid: `${at}`.padStart(40, '0'),
    lfs: at === 0,
  }))
  const commit = commitOf(named, 'bafy', source)
  expect(commit.id).toBe(source.commit)
  for (const [at, { path }] of files.entries()) {
    expect(commit.entries.get(path)).toMatchObject({
      oid: `${at}`.padStart(40, '0'),
      isLfs: at === 0,
    })
  }
})
