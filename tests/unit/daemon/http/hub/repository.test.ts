import { expect, test } from 'vitest'
import {
  commitsBody,
  infoBody,
  isRevision,
  refsBody,
  type Repository,
} from '../../../../../daemon/http/hub/repository.ts'
import type { SourceView } from '../../../../../src/api/contract.ts'
import { rawCid } from '../../../../../src/core/cid.ts'
import { sha256 } from '../../../../../src/core/digest.ts'
import { gitOid } from '../../../../../src/core/git.ts'
import { commitOf } from '../../../../../src/manifest/git-commit.ts'

const bytes = Buffer.from('{}')
const root = rawCid(sha256(bytes))
const commit = 'c'.repeat(40)
const other = 'd'.repeat(40)

const view: SourceView = {
  type: 'source',
  hub: 'huggingface.co',
  repo: 'org/model',
  kind: 'model',
  commit,
  whole: true,
  upstream: null,
  seenAtMs: 1,
  licence: 'mit',
  gated: 'auto',
  lastModified: '2024-05-06T07:08:09.000Z',
  tags: ['license:mit'],
  refs: { main: commit, 'v1.0': commit, 'refs/pr/1': commit, dev: other },
  cardData: { pipeline_tag: 'fill-mask', library_name: ['not', 'a', 'text'] },
  xetHashes: 0,
}

function repository(about: SourceView | null): Repository {
  const file = { path: 'a.json', size: 2, sha256: sha256(bytes), root }
  const facts = { gitOid: gitOid('blob', bytes), lfs: false }
  const source = { hub: 'huggingface.co', repo: 'org/model', type: 'model', commit } as const
  return {
    model: { name: 'org/model', manifest: root, addedAtMs: 5, link: undefined },
    commit:
      about === null ? commitOf([file], 'bafy') : commitOf([{ ...file, ...facts }], 'bafy', source),
    about: () => about,
    xetHashes: () => new Map(),
  }
}

test.for(['main', 'HEAD', 'refs/heads/main', commit, 'v1.0', 'refs/tags/v1.0', 'refs/pr/1'])(
  '%s is the commit',
  revision => {
    expect(isRevision(repository(view), revision)).toBe(true)
  },
)

test.for(['dev', other, 'refs/heads/dev', '', 'toString'])('%s is not', revision => {
  expect(isRevision(repository(view), revision)).toBe(false)
})

test('a model that never was on a hub is main and its own commit', () => {
  const made = repository(null)
  expect(isRevision(made, 'v1.0')).toBe(false)
  expect(isRevision(made, made.commit.id)).toBe(true)
  expect(made.commit.id).not.toBe(commit)
  expect(infoBody(made, { blobs: true })).toMatchObject({
    gated: false,
    tags: [],
    siblings: [{ rfilename: 'a.json', lfs: { size: 2 } }],
  })
})

test('shows what the hub says, and of a card only what it can be', () => {
  const info = infoBody(repository(view), { blobs: true }) as Record<string, unknown>
  expect(info).toMatchObject({
    sha: commit,
    gated: 'auto',
    tags: ['license:mit'],
    lastModified: '2024-05-06T07:08:09.000Z',
    pipeline_tag: 'fill-mask',
    siblings: [{ rfilename: 'a.json', size: 2, blobId: gitOid('blob', bytes) }],
  })
  expect(info).not.toHaveProperty('library_name')
  expect(info).not.toHaveProperty('siblings.0.lfs')
  expect(commitsBody(repository(view))).toMatchObject([{ date: '2024-05-06T07:08:09.000Z' }])
})

test('lists the names of this commit, and always a main', () => {
  expect(refsBody(repository(view))).toMatchObject({
    branches: [{ name: 'main', ref: 'refs/heads/main', targetCommit: commit }],
    tags: [
      { name: 'v1.0', ref: 'refs/tags/v1.0', targetCommit: commit },
      { name: 'refs/pr/1', targetCommit: commit },
    ],
  })
})

test('a date that is not known is left out, and of a commit, which must have one, it is zero', () => {
  const made = repository(null)
  expect(infoBody(made, { blobs: false })).toMatchObject({
    lastModified: expect.stringMatching(/005Z$/u),
  })
  // Git's own date of a commit that was made up of a manifest, whenever it came here.
  expect(commitsBody(made)).toMatchObject([{ date: '1970-01-01T00:00:00.000Z' }])
  const unheld = { ...made, model: { ...made.model, addedAtMs: undefined } }
  expect(infoBody(unheld, { blobs: false })).not.toHaveProperty('lastModified')
  expect(infoBody(unheld, { blobs: false })).not.toHaveProperty('createdAt')
  expect(commitsBody(unheld)).toMatchObject([{ date: '1970-01-01T00:00:00.000Z' }])
})
