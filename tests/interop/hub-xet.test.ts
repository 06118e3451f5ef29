/** The real hf_xet fetches from the gateway, which knows nothing of Xet, what huggingface_hub would refuse otherwise. */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { mirrorRequestSchema } from '../../src/api/contract.ts'
import { MiB, minute } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { openMockHub } from '../support/mock-hub.ts'
import { witnessSha256 } from '../support/machine.ts'
import { seededBytes } from '../support/model-files.ts'
import { pythonWith } from './python.ts'

const run = promisify(execFile)
const timeout = 5 * minute
const weights = seededBytes('more than one xorb', 70 * MiB + 12_345)
const small = seededBytes('less than a chunk', 3000)
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function download(hub: HubGateway, bin: string, home: string): Promise<string> {
  const env = { ...process.env, HF_ENDPOINT: hub.url, HF_HOME: home, HF_TOKEN: 'hf_secret' }
  const folder = join(home, 'out')
  await run(join(bin, 'hf'), ['download', 'org/model', '--local-dir', folder], { env, timeout })
  return folder
}

function xorbs({ requests }: HubGateway): string[] {
  return requests.filter(line => line.startsWith('GET /cas/models/org/model/xorbs/'))
}

test.for(['0.36.2', '1.33.0', '2.0.0'])(
  'huggingface_hub %s takes a large file by Xet and a small one without',
  { timeout },
  async (version, context) => {
    const python = await pythonWith([`huggingface_hub==${version}`])
    if (!python.found) return context.skip(python.reason)
    await using hub = await openHubGateway({ plainBytesMax: MiB })
    await hub.seed('org/model', { 'model.safetensors': weights, 'small.bin': small })
    const folder = await download(hub, python.bin, hub.file('home'))
    expect(await witnessSha256(join(folder, 'model.safetensors'))).toBe(sha256(weights))
    expect(await witnessSha256(join(folder, 'small.bin'))).toBe(sha256(small))
    expect(xorbs(hub).length).toBeGreaterThan(2)
    // The large one came no other way, and the token of the real hub went nowhere.
    expect(hub.requests.filter(line => /^GET .*resolve.*model\.safetensors/u.test(line))).toEqual(
      [],
    )
    expect(hub.logged.filter(line => line.includes('hf_secret'))).toEqual([])
  },
)

test('a file that only another node has comes by Xet too', { timeout }, async context => {
  const python = await pythonWith(['huggingface_hub==2.0.0'])
  if (!python.found) return context.skip(python.reason)
  await using far = await openHubGateway()
  await far.seed('org/model', { 'model.safetensors': weights })
  await using near = await openHubGateway({ plainBytesMax: MiB })
  near.node.name('org/model', far.node.link('org/model').link)
  const folder = await download(near, python.bin, near.file('home'))
  expect(await witnessSha256(join(folder, 'model.safetensors'))).toBe(sha256(weights))
  expect(xorbs(near).length).toBeGreaterThan(2)
})

test(
  'a client that remembers a tree of the real hub, with its Xet hashes, is served by them',
  { timeout },
  async context => {
    const python = await pythonWith(['huggingface_hub==2.0.0'])
    if (!python.found) return context.skip(python.reason)
    await using upstream = await openMockHub({ xet: true })
    const commit = upstream.commit('org/model', { 'model.safetensors': weights })
    await using hub = await openHubGateway()
    const request = { kind: 'mirror', ref: 'hf:org/model', upstream: upstream.url }
    await hub.node.mirror(mirrorRequestSchema.parse(request), {
      signal: new AbortController().signal,
      onEvent: () => undefined,
    })
    const tree = await fetch(`${upstream.url}/api/models/org/model/tree/${commit}`)
    const [entry] = (await tree.json()) as { oid: string; xetHash: string }[]
    // What it wrote when it listed the files at the real hub.
    const home = hub.file('home')
    const trees = join(home, 'hub', 'models--org--model', 'trees')
    await mkdir(trees, { recursive: true })
    const known = {
      size: weights.length,
      blob_id: entry?.oid,
      lfs_sha256: sha256(weights),
      lfs_size: weights.length,
      xet_hash: entry?.xetHash,
    }
    const text = JSON.stringify({ format_version: 1, files: { 'model.safetensors': known } })
    await writeFile(join(trees, `${commit}.json`), text)
    const env = { ...process.env, HF_ENDPOINT: hub.url, HF_HOME: home }
    const args = ['download', 'org/model', '--revision', commit]
    const { stdout } = await run(join(python.bin, 'hf'), args, { env, timeout })
    const folder = (stdout.trim().split('\n').at(-1) ?? '').replace(/^.*path[=:] */u, '')
    expect(await witnessSha256(join(folder, 'model.safetensors'))).toBe(sha256(weights))
    const path = `/cas/models/org/model/v2/reconstructions/${entry?.xetHash}`
    expect(hub.requests.some(line => line.startsWith(`GET ${path}`))).toBe(true)
  },
)
