import { expect, test } from 'vitest'
import {
  answerRepository,
  type HubAnswer,
  type HubQuestion,
} from '../../../../../daemon/http/hub/answers.ts'
import type { RepoTarget } from '../../../../../daemon/http/hub/target.ts'
import { clientPlainBytesMax } from '../../../../../daemon/http/hub/xet.ts'
import { codecs, makeCid, rawCid } from '../../../../../src/core/cid.ts'
import { toHex } from '../../../../../src/core/bytes.ts'
import { sha256 } from '../../../../../src/core/digest.ts'
import { commitOf } from '../../../../../src/manifest/git-commit.ts'

const digest = sha256(Buffer.from('large'))
const root = makeCid(codecs.dagPb, digest)
const python = 'unknown/None; hf_hub/2.0.0; python/3.11'

interface Asked {
  readonly size: number
  readonly agent: string
  readonly known?: ReadonlyMap<string, string>
  readonly target?: Pick<RepoTarget, 'rest' | 'verb'>
  readonly method?: string
}

function ask(asked: Asked): HubAnswer {
  const { agent, known = new Map<string, string>(), method = 'HEAD', size } = asked
  const files = [
    { path: 'model.bin', size, sha256: digest, root },
    { path: 'telemetry', size: 5, sha256: digest, root: rawCid(digest) },
  ]
  const model = { name: 'org/model', manifest: rawCid(digest), addedAtMs: 0, link: undefined }
  const repository = {
    model,
    commit: commitOf(files, 'bafy'),
    about: () => null,
    xetHashes: () => known,
  }
  const question: HubQuestion = {
    repository,
    target: { name: 'org/model', verb: 'resolve', rest: ['main', 'model.bin'], ...asked.target },
    method,
    headers: { 'user-agent': agent },
    query: new URLSearchParams(),
    host: '127.0.0.1:4080',
    body: '',
    nowMs: 0,
    plainBytesMax: clientPlainBytesMax,
  }
  return answerRepository(question)
}

function head(size: number, agent: string, known?: ReadonlyMap<string, string>): HeadersOf {
  const answer = ask({ size, agent, ...(known === undefined ? {} : { known }) })
  return answer.kind === 'file' ? answer.head.headers : {}
}
type HeadersOf = Readonly<Record<string, string>>

test('huggingface_hub is told of Xet for what it refuses otherwise, and for nothing else', () => {
  expect(head(50_000_000_000, python)).not.toHaveProperty('x-xet-hash')
  expect(head(50_000_000_001, python)).toMatchObject({
    'x-xet-hash': toHex(digest),
    'content-length': '50000000001',
    link: expect.stringContaining('; rel="xet-auth"'),
  })
})

test('nobody else is told of Xet', () => {
  for (const agent of ['curl/8.0', 'aria2/1.36', '', 'llama.cpp']) {
    const headers = head(60_000_000_000, agent)
    expect(headers).not.toHaveProperty('x-xet-hash')
    expect(headers).not.toHaveProperty('link')
    expect(headers['content-length']).toBe('60000000000')
  }
})

test('the hash of the hub is told where it is known', () => {
  const known = new Map([['model.bin', 'e'.repeat(64)]])
  expect(head(60_000_000_000, python, known)['x-xet-hash']).toBe('e'.repeat(64))
})

test('a file may have any name, and only what Xet tells of itself is posted', () => {
  const file = { verb: 'resolve', rest: ['main', 'telemetry'] } as const
  const telling = { verb: 'cas', rest: ['v1', 'telemetry'] } as const
  const question = { size: 5, agent: 'curl/8' }
  expect(ask({ ...question, target: file, method: 'GET' }).kind).toBe('file')
  expect(ask({ ...question, target: file, method: 'POST' })).toMatchObject({ status: 405 })
  expect(ask({ ...question, target: telling, method: 'POST' })).toMatchObject({ status: 200 })
  expect(ask({ ...question, target: telling, method: 'GET' })).toMatchObject({ status: 405 })
})
