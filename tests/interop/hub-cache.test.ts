/** The cache of the real huggingface_hub, old and new: what it wrote is adopted, what we write it loads offline. */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest'
import type { AdoptedEvent } from '../../src/api/adoption.ts'
import { adoptRequestSchema } from '../../src/api/adoption.ts'
import { pullRequestSchema } from '../../src/api/contract.ts'
import { mirrorRequestSchema } from '../../src/api/mirror-contract.ts'
import { MiB, minute } from '../../src/core/units.ts'
import type { Node } from '../../src/node.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { witnessSha256 } from '../support/machine.ts'
import { openMockHub } from '../support/mock-hub.ts'
import { seededBytes } from '../support/model-files.ts'
import { needed, nodeWith } from './programs.ts'
import { type Python, pythonWith } from './python.ts'

const run = promisify(execFile)
const versions = ['0.36.2', '1.33.0', '2.0.0'] as const
const timeout = 5 * minute
const files = {
  'config.json': '{"model_type":"none"}',
  'empty.txt': '',
  'model.safetensors': seededBytes('weights', 3 * MiB + 5),
  'copy.safetensors': seededBytes('weights', 3 * MiB + 5),
  'sub dir/odd #1 name%.json': 'odd',
}

let hub: HubGateway
let seeded: string
beforeAll(async () => {
  hub = await openHubGateway()
  seeded = await hub.seed('org/model', files)
})
afterAll(() => hub[Symbol.asyncDispose]())

type FoundPython = Extract<Python, { found: true }>

async function client(version: string, context: TestContext): Promise<FoundPython> {
  const python = await pythonWith([`huggingface_hub==${version}`])
  if (!python.found) context.skip(python.reason)
  return python
}

function script(env: Readonly<Record<string, string>>, body: string): string {
  return `import os, sys, json
os.environ.update(json.loads(${JSON.stringify(JSON.stringify(env))}))
${body}`
}

const options = { signal: new AbortController().signal, onEvent: () => undefined }

async function adopt(node: Node, folder: string): Promise<AdoptedEvent[]> {
  const adopted: AdoptedEvent[] = []
  const request = adoptRequestSchema.parse({ kind: 'adopt', hf: [folder] })
  await node.adopt(request, {
    ...options,
    onEvent: event => void (event.type === 'adopted' && adopted.push(event)),
  })
  return adopted
}

describe.for(versions)('huggingface_hub %s', version => {
  test(
    'its cache is adopted in place, as the model it was fetched from',
    { timeout },
    async context => {
      const python = await client(version, context)
      await using near = await openHubGateway()
      const home = near.file('hf')
      const env = { HF_ENDPOINT: hub.url, HF_HOME: home, HF_HUB_DISABLE_TELEMETRY: '1' }
      const body = 'from huggingface_hub import snapshot_download\nsnapshot_download("org/model")'
      await python.run(script(env, body), [])
      const adopted = await adopt(near.node, join(home, 'hub'))
      expect(adopted).toMatchObject([
        { name: 'org/model', state: 'new', manifest: seeded, files: 5 },
      ])
      expect(await adopt(near.node, join(home, 'hub'))).toMatchObject([{ state: 'known' }])
      const { files: held } = await near.node.show('org/model', options.signal)
      expect(held.every(({ place, state }) => state === 'held' && place.includes('/blobs/'))).toBe(
        true,
      )
    },
  )

  test('a download into a folder of its own is adopted', { timeout }, async context => {
    const python = await client(version, context)
    await using near = await openHubGateway()
    const folder = near.file('local')
    const env = { HF_ENDPOINT: hub.url, HF_HOME: near.file('hf'), HF_HUB_DISABLE_TELEMETRY: '1' }
    const body = `from huggingface_hub import snapshot_download
snapshot_download("org/model", local_dir=sys.argv[1])`
    await python.run(script(env, body), [folder])
    expect(await adopt(near.node, folder)).toMatchObject([
      { manifest: seeded, name: null, files: 5 },
    ])
  })

  test('loads offline what a pull wrote into its cache', { timeout }, async context => {
    const python = await client(version, context)
    await using near = await openHubGateway()
    const home = near.file('hf')
    const { link } = hub.node.link('org/model')
    const request = { kind: 'pull', ref: link, hfCache: join(home, 'hub') }
    const pulled = await near.node.pull(pullRequestSchema.parse(request), options)
    const env = { HF_HUB_OFFLINE: '1', HF_HOME: home, HF_ENDPOINT: 'http://127.0.0.1:9' }
    const body = `from huggingface_hub import snapshot_download, hf_hub_download, try_to_load_from_cache, scan_cache_dir
scan = scan_cache_dir()
[repo] = scan.repos
[revision] = repo.revisions
print(json.dumps({"snapshot": snapshot_download("org/model"),
  "file": hf_hub_download("org/model", "sub dir/odd #1 name%.json"),
  "cached": try_to_load_from_cache("org/model", "config.json"),
  "repo": repo.repo_id, "files": repo.nb_files, "refs": sorted(revision.refs), "warnings": [str(w) for w in scan.warnings]}))`
    const seen = JSON.parse(await python.run(script(env, body), [])) as Record<string, unknown>
    const snapshot = pulled.snapshot ?? ''
    expect(seen).toEqual({
      snapshot,
      file: join(snapshot, 'sub dir/odd #1 name%.json'),
      cached: join(snapshot, 'config.json'),
      repo: 'org/model',
      files: 4,
      refs: ['main'],
      warnings: [],
    })
    expect(await digestsOf(snapshot)).toEqual(
      Object.fromEntries(Object.entries(files).map(([path, bytes]) => [path, sha256(bytes)])),
    )
    expect((await stat(join(snapshot, 'model.safetensors'))).nlink).toBeGreaterThan(1)
  })
})

test.for(['1.33.0', '2.0.0'])(
  'what %s fetched from a hub is the model that a mirror of the commit is, offline',
  { timeout },
  async (version, context) => {
    const python = await client(version, context)
    await using near = await openHubGateway()
    const folder = near.file('local')
    const home = near.file('hf')
    const mock = await openMockHub()
    mock.repo('org/Model')
    mock.commit(
      'org/Model',
      Object.fromEntries(Object.entries(files).map(([path, bytes]) => [path, Buffer.from(bytes)])),
    )
    const request = { kind: 'mirror', ref: 'hf:org/Model', upstream: mock.url }
    const mirrored = await hub.node.mirror(mirrorRequestSchema.parse(request), options)
    const env = { HF_ENDPOINT: mock.url, HF_HOME: home, HF_HUB_DISABLE_TELEMETRY: '1' }
    const body = `from huggingface_hub import snapshot_download
snapshot_download("org/Model")
snapshot_download("org/Model", local_dir=sys.argv[1])`
    await python.run(script(env, body), [folder])
    await mock[Symbol.asyncDispose]()
    const { manifest } = mirrored
    expect(await adopt(near.node, join(home, 'hub'))).toMatchObject([{ manifest, state: 'new' }])
    // The folder does not say whose commit it is; the model that is held does.
    expect(await adopt(near.node, folder)).toMatchObject([{ manifest, state: 'known' }])
    await hub.node.remove(manifest, { files: true })
  },
)

test('a cache without links is adopted, as Windows has it', { timeout }, async context => {
  const python = await client('2.0.0', context)
  await using near = await openHubGateway()
  const home = near.file('hf')
  const rest = { HF_HUB_DISABLE_TELEMETRY: '1', HF_HUB_DISABLE_SYMLINKS: '1' }
  const env = { HF_ENDPOINT: hub.url, HF_HOME: home, ...rest }
  const body = 'from huggingface_hub import snapshot_download\nsnapshot_download("org/model")'
  await python.run(script(env, body), [])
  const adopted = await adopt(near.node, join(home, 'hub'))
  expect(adopted).toMatchObject([{ name: 'org/model', manifest: seeded, files: 5 }])
  const { files: held } = await near.node.show('org/model', options.signal)
  expect(held.every(({ place }) => place.includes('/snapshots/'))).toBe(true)
})

test('the cache of @huggingface/hub is adopted', { timeout }, async context => {
  const node = needed(await nodeWith(['@huggingface/hub@2.17.5']), context)
  await using near = await openHubGateway()
  const body = `import { snapshotDownload } from '@huggingface/hub'
const [hubUrl, cacheDir] = process.argv.slice(1)
await snapshotDownload({ repo: 'org/model', hubUrl, cacheDir })`
  // Names with # and ? it cannot fetch.
  const { 'sub dir/odd #1 name%.json': _, ...plain } = files
  const manifest = await near.seed('org/plain', plain)
  await node.run(body.replaceAll('org/model', 'org/plain'), near.url, near.file('js'))
  await using other = await openHubGateway()
  const adopted = await adopt(other.node, near.file('js'))
  expect(adopted).toMatchObject([{ name: 'org/plain', state: 'new', manifest, files: 4 }])
})

test('hf cache verify agrees with a cache that we wrote', { timeout }, async context => {
  const python = await client('1.33.0', context)
  await using near = await openHubGateway()
  const home = near.file('hf')
  const request = { kind: 'pull', ref: hub.node.link('org/model').link, hfCache: join(home, 'hub') }
  await near.node.pull(pullRequestSchema.parse(request), options)
  const env = { ...process.env, HF_ENDPOINT: hub.url, HF_HOME: home }
  // It exits with an error for each digest that differs.
  await expect(
    run(join(python.bin, 'hf'), ['cache', 'verify', 'org/model'], { env }),
  ).resolves.toBeDefined()
})

async function digestsOf(folder: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {}
  for (const path of (await readdir(folder, { recursive: true })).toSorted()) {
    const place = join(folder, path)
    if ((await stat(place)).isFile()) digests[path] = await witnessSha256(place)
  }
  return digests
}

function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}
