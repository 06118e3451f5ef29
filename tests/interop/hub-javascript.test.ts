/** @huggingface/hub and transformers.js read models through the gateway as they do from the Hub. */

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MiB, minute } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { seededBytes, tensorFile } from '../support/model-files.ts'
import { needed, nodeWith } from './programs.ts'

const timeout = 5 * minute
const weights = tensorFile({ first: seededBytes('first', 3 * MiB), second: seededBytes('2', 900) })
const words = [
  '[PAD]',
  '[UNK]',
  '[CLS]',
  '[SEP]',
  '[MASK]',
  'every',
  'byte',
  'is',
  'veri',
  '##fied',
]
const files = {
  'config.json': '{"model_type":"bert"}',
  'empty.txt': '',
  'model.safetensors': weights,
  'sub dir/deep/notes.txt': 'deep',
  'tokenizer.json': JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: { type: 'BertNormalizer', clean_text: true, lowercase: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(words.map((word, index) => [word, index])),
    },
  }),
  'tokenizer_config.json': '{"tokenizer_class":"BertTokenizer"}',
}

let far: HubGateway
let hub: HubGateway
beforeAll(async () => {
  far = await openHubGateway()
  await far.seed('Org/Model', files)
  // Has nothing of it: every byte that the clients read comes from the other node.
  hub = await openHubGateway()
  hub.node.name('Org/Model', far.node.link('Org/Model').link)
})
afterAll(async () => {
  await hub[Symbol.asyncDispose]()
  await far[Symbol.asyncDispose]()
})

const readHub = `
import * as hub from '@huggingface/hub'
import { createHash } from 'node:crypto'
const [hubUrl, cacheDir] = process.argv.slice(1)
const repo = 'Org/Model'
const at = { repo, hubUrl }
const all = async list => { const found = []; for await (const each of list) found.push(each); return found }
const blob = await hub.downloadFile({ ...at, path: 'model.safetensors' })
const whole = Buffer.from(await blob.arrayBuffer())
const part = Buffer.from(await blob.slice(1000, 5000).arrayBuffer())
const empty = await hub.downloadFile({ ...at, path: 'empty.txt' })
const raw = await hub.downloadFile({ ...at, path: 'model.safetensors', raw: true })
const sha = bytes => createHash('sha256').update(bytes).digest('hex')
const tensors = await hub.parseSafetensorsMetadata(at)
const kind = promise => promise.then(() => 'found', error => error.statusCode)
console.log(JSON.stringify({
  files: (await all(hub.listFiles({ ...at, recursive: true }))).map(({ path, type }) => type + ' ' + path),
  folder: (await all(hub.listFiles({ ...at, path: 'sub dir/deep' }))).map(({ path }) => path),
  info: (await hub.modelInfo({ name: 'org/model', hubUrl })).name,
  models: (await all(hub.listModels({ hubUrl, search: { query: 'model' } }))).map(({ name }) => name),
  commits: (await all(hub.listCommits(at))).length,
  exists: [await hub.fileExists({ ...at, path: 'config.json' }), await hub.fileExists({ ...at, path: 'none' })],
  missing: [await hub.fileDownloadInfo({ ...at, path: 'none' }), await hub.downloadFile({ ...at, path: 'none' })],
  unknown: await kind(hub.modelInfo({ name: 'org/none', hubUrl })),
  whole: sha(whole), part: sha(part), empty: empty.size, raw: (await raw.text()).split('\\n')[0],
  tensors: Object.keys(tensors.header).filter(name => name !== '__metadata__').sort(),
  snapshot: await hub.snapshotDownload({ ...at, cacheDir }),
}))`

test('@huggingface/hub lists, reads, and fills its cache', { timeout }, async context => {
  const node = needed(await nodeWith(['@huggingface/hub@2.17.5']), context)
  const printed = await node.run(readHub, hub.url, hub.file('cache-of-js'))
  // It tells of its progress there too.
  const given = JSON.parse(printed.trim().split('\n').at(-1) ?? '') as {
    snapshot: string
  }
  const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
  const paths = Object.keys(files).map(path => `file ${path}`)
  expect(given).toMatchObject({
    files: expect.arrayContaining([...paths, 'directory sub dir', 'directory sub dir/deep']),
    folder: ['sub dir/deep/notes.txt'],
    info: 'Org/Model',
    models: ['Org/Model'],
    commits: 1,
    exists: [true, false],
    missing: [null, null],
    unknown: 404,
    whole: sha256(weights),
    part: sha256(weights.subarray(1000, 5000)),
    empty: 0,
    raw: 'version https://git-lfs.github.com/spec/v1',
    tensors: ['first', 'second'],
  })
  const kept = await readdir(given.snapshot, { recursive: true })
  expect(kept).toEqual(expect.arrayContaining(Object.keys(files)))
  const bytes = await readFile(`${given.snapshot}/model.safetensors`)
  expect(bytes.equals(weights)).toBe(true)
})

const readTokens = `
import { AutoConfig, AutoTokenizer, env } from '@huggingface/transformers'
const [host, cacheDir, folder] = process.argv.slice(1)
Object.assign(env, { remoteHost: host, cacheDir, allowLocalModels: false })
const name = 'org/model'
const text = 'Every byte is verified.'
const load = async () => {
  const { model_type } = await AutoConfig.from_pretrained(name)
  const tokenizer = await AutoTokenizer.from_pretrained(name)
  return { model_type, ids: tokenizer.encode(text) }
}
console.log(JSON.stringify(await load()))`

test('transformers.js loads a tokenizer and a configuration', { timeout }, async context => {
  const node = needed(await nodeWith(['@huggingface/transformers@4.3.1']), context)
  const given = await node.run(readTokens, `${hub.url}/`, hub.file('cache-of-transformers-js'))
  // [UNK] for the full stop, which is not in the vocabulary.
  expect(JSON.parse(given)).toEqual({ model_type: 'bert', ids: [5, 6, 7, 8, 9, 1] })
})
