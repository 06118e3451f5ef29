import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { gitOid } from '../../../src/core/git.ts'
import { parsePointer, treeOfCommit, treeOid } from '../../../src/hub/git.ts'
import { pointerText } from '../../../src/manifest/git-commit.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const sha256 = 'ab'.repeat(32)

test('reads the pointers that clients of Git LFS write', () => {
  expect(parsePointer(Buffer.from(pointerText({ sha256, size: 5 })))).toEqual({ sha256, size: 5 })
  const extended = `version https://git-lfs.github.com/spec/v1\next-0-foo sha256:${sha256}\noid sha256:${sha256}\nsize 7\n`
  expect(parsePointer(Buffer.from(extended))).toEqual({ sha256, size: 7 })
})

test.for([
  '',
  'version https://git-lfs.github.com/spec/v2\n',
  `oid sha256:${sha256}\nsize 5\n`,
  `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize -5\n`,
  `version https://git-lfs.github.com/spec/v1\noid md5:${sha256}\nsize 5\n`,
  `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize 5\n${'x'.repeat(1024)}`,
])('takes %j for a file', text => {
  expect(parsePointer(Buffer.from(text))).toBeUndefined()
})

test('names trees as git does: folders, modes, and names that sort apart from their folder', async () => {
  await using scratch = await openScratchFolder()
  const git = (...args: string[]): string =>
    execFileSync(
      'git',
      ['-C', scratch.path, '-c', 'user.name=t', '-c', 'user.email=t@t', ...args],
      {
        encoding: 'utf8',
        env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' },
      },
    )
  const { mkdir, writeFile, chmod } = await import('node:fs/promises')
  await mkdir(scratch.file('a/b'), { recursive: true })
  const paths = ['a.txt', 'a/b/c', 'a-b', 'a/z', 'é']
  for (const path of paths) await writeFile(scratch.file(path), path)
  await chmod(scratch.file('a-b'), 0o755)
  git('init', '-q')
  git('add', '.')
  git('commit', '-q', '-m', 'x')
  const files = paths.map(path => ({
    path,
    mode: path === 'a-b' ? '100755' : '100644',
    oid: gitOid('blob', Buffer.from(path)),
  }))
  expect(treeOid(files)).toBe(git('rev-parse', 'HEAD^{tree}').trim())
  const commit = Buffer.from(git('cat-file', 'commit', 'HEAD'))
  expect(treeOfCommit(commit)).toBe(treeOid(files))
  expect(gitOid('commit', commit)).toBe(git('rev-parse', 'HEAD').trim())
  expect(treeOfCommit(Buffer.from('parent x'))).toBeUndefined()
})
