import { expect, test } from 'vitest'
import type { HubFile } from '../../../../src/hub/answers.ts'
import { changesBetween } from '../../../../src/ops/mirror/changes.ts'
import { largeFile, smallFile } from '../../../support/manifests.ts'

const oid = (letter: string): string => letter.repeat(40)

function inGit(path: string, gitOid: string): HubFile {
  return { path, size: 1000, gitOid, sha256: undefined, xetHash: undefined }
}

function inLfs(path: string, sha256: string): HubFile {
  return { path, size: 1000, gitOid: oid('f'), sha256, xetHash: undefined }
}

test('tells what was added, changed and removed, and counts the rest', () => {
  const weights = largeFile('w')
  const hex = Buffer.from(weights.sha256).toString('hex')
  const before = [
    { ...smallFile('same'), gitOid: oid('a') },
    { ...smallFile('other'), gitOid: oid('b') },
    { ...smallFile('gone'), gitOid: oid('c') },
    weights,
    { ...largeFile('x') },
  ]
  const wanted = [inGit('same', oid('a')), inGit('other', oid('d')), inGit('new', oid('e'))]
  const changes = changesBetween('old', before, [...wanted, inLfs('w', hex), inLfs('x', hex)])
  expect(changes).toEqual({
    since: 'old',
    added: 1,
    changed: 2,
    removed: 1,
    unchanged: 2,
    paths: [
      { path: 'other', what: 'changed' },
      { path: 'new', what: 'added' },
      { path: 'x', what: 'changed' },
      { path: 'gone', what: 'removed' },
    ],
  })
})

test('names a hundred files and counts all', () => {
  const wanted = Array.from({ length: 150 }, (_, index) => inGit(`f${index}`, oid('a')))
  const { added, paths } = changesBetween('old', [], wanted)
  expect({ added, paths: paths.length }).toEqual({ added: 150, paths: 100 })
})
