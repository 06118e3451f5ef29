/** The real huggingface_hub, old and new, reads models through the gateway as it does from the Hub. */

import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest'
import { MiB, minute } from '../../src/core/units.ts'
import { witnessSha256 } from '../support/machine.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { filesBelow, seededBytes } from '../support/model-files.ts'
import { type Python, pythonWith } from './python.ts'

const run = promisify(execFile)
const versions = ['0.36.2', '1.33.0', '2.0.0'] as const
const large = seededBytes('a large file', 512 * MiB)
const files = {
  'config.json': '{"model_type":"none"}',
  'empty.txt': '',
  'model.safetensors': seededBytes('weights', 11 * MiB + 5),
  'sub dir/odd #1 name%.json': 'odd',
}
const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex')

let hub: HubGateway
beforeAll(async () => {
  hub = await openHubGateway()
  await hub.seed('org/model', files)
  await hub.seed('org/large', { 'large.bin': large })
})
afterAll(() => hub[Symbol.asyncDispose]())

type FoundPython = Extract<Python, { found: true }>

async function client(version: string, context: TestContext): Promise<FoundPython> {
  const python = await pythonWith([`huggingface_hub==${version}`])
  if (!python.found) context.skip(python.reason)
  return python
}

/** Before the client is imported: it reads its environment then. */
function script(home: string, body: string): string {
  const environment = { HF_ENDPOINT: hub.url, HF_HOME: home, HF_HUB_DISABLE_TELEMETRY: '1' }
  return `import os, sys, json
os.environ.update(json.loads(${JSON.stringify(JSON.stringify(environment))}))
os.environ.pop("HF_HUB_OFFLINE", None)
${body}`
}

describe.for(versions)('huggingface_hub %s', version => {
  const timeout = 5 * minute

  test(
    'hf download fetches every file, and leaves a cache that works offline',
    {
      timeout,
    },
    async context => {
      const python = await client(version, context)
      const home = hub.file(`cli-${version}`)
      const env = { ...process.env, HF_ENDPOINT: hub.url, HF_HOME: home, HF_TOKEN: 'hf_secret' }
      const { stdout } = await run(join(python.bin, 'hf'), ['download', 'org/model'], {
        env,
        timeout,
      })
      const last = stdout.trim().split('\n').at(-1) ?? ''
      const folder = last.replace(/^.*path[=:] */u, '')
      expect(folder).toContain('models--org--model')
      expect(await filesIn(folder)).toEqual(expected(files))
      const offline = { ...env, HF_HUB_OFFLINE: '1' }
      await run(join(python.bin, 'hf'), ['download', 'org/model'], { env: offline, timeout })
      expect(hub.logged.filter(line => line.includes('hf_secret'))).toEqual([])
    },
  )

  test('snapshot_download into a folder, and of a part', { timeout }, async context => {
    const python = await client(version, context)
    const folder = hub.file(`local-${version}`)
    const body = `from huggingface_hub import snapshot_download
snapshot_download("org/model", local_dir=sys.argv[1], allow_patterns=["*.json"])`
    await python.run(script(hub.file(`snapshot-${version}`), body), [folder])
    const found = (await filesBelow(folder)).filter(path => !path.startsWith('.cache'))
    expect(found).toEqual(['config.json', 'sub dir/odd #1 name%.json'])
  })

  test('HfFileSystem lists, reads a part and follows folders', { timeout }, async context => {
    const python = await client(version, context)
    const body = `from huggingface_hub import HfFileSystem
fs = HfFileSystem()
with fs.open("org/model/model.safetensors", "rb") as file:
    file.seek(${5 * MiB}); part = file.read(${MiB})
import hashlib
print(json.dumps({"ls": sorted(fs.ls("org/model", detail=False)), "part": hashlib.sha256(part).hexdigest(),
  "glob": sorted(fs.glob("org/model/**/*.json")), "sub": fs.ls("org/model/sub dir", detail=False)}))`
    const output = await python.run(script(hub.file(`fs-${version}`), body), [])
    const weights = files['model.safetensors']
    expect(JSON.parse(output)).toEqual({
      ls: ['config.json', 'empty.txt', 'model.safetensors', 'sub dir'].map(
        path => `org/model/${path}`,
      ),
      part: sha256(weights.subarray(5 * MiB, 6 * MiB)),
      glob: ['org/model/config.json', 'org/model/sub dir/odd #1 name%.json'],
      sub: ['org/model/sub dir/odd #1 name%.json'],
    })
  })

  test('tells apart what is missing', { timeout }, async context => {
    const python = await client(version, context)
    const body = `from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache, file_exists
from huggingface_hub.utils import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
def kind(*args, **more):
    try: hf_hub_download(*args, **more); return "found"
    except EntryNotFoundError: return "entry"
    except RevisionNotFoundError: return "revision"
    except RepositoryNotFoundError: return "repository"
api = HfApi()
info = api.model_info("ORG/Model", files_metadata=True)
print(json.dumps({
  "kinds": [kind("org/model", "config.json"), kind("org/model", "none.json"),
            kind("org/model", "config.json", revision="dev"), kind("org/none", "config.json")],
  "remembered": str(type(try_to_load_from_cache("org/model", "none.json")).__name__),
  "exists": [file_exists("org/model", "config.json"), file_exists("org/model", "none.json")],
  "id": info.id, "sha": info.sha, "files": {s.rfilename: s.size for s in info.siblings},
  "refs": [b.name for b in api.list_repo_refs("org/model").branches],
  "paths": [e.path for e in api.get_paths_info("org/model", ["config.json", "none", "sub dir"])],
  "listed": [m.id for m in api.list_models(search="model")],
  "tree": sorted(e.path for e in api.list_repo_tree("org/model", recursive=True)),
}))`
    const output = await python.run(script(hub.file(`errors-${version}`), body), [])
    expect(JSON.parse(output)).toMatchObject({
      kinds: ['found', 'entry', 'revision', 'repository'],
      // The client's own mark for a file that is known not to be there.
      remembered: 'object',
      exists: [true, false],
      id: 'org/model',
      sha: expect.stringMatching(/^[0-9a-f]{40}$/),
      files: Object.fromEntries(
        Object.entries(files).map(([path, bytes]) => [path, Buffer.byteLength(bytes)]),
      ),
      refs: ['main'],
      paths: ['config.json', 'sub dir'],
      listed: ['org/model'],
      tree: [...Object.keys(files), 'sub dir'].toSorted(),
    })
  })

  test('goes on after its process was killed', { timeout }, async context => {
    const python = await client(version, context)
    const home = hub.file(`killed-${version}`)
    const body = `from huggingface_hub import hf_hub_download
print(hf_hub_download("org/large", "large.bin"))`
    const blobs = join(home, 'hub', 'models--org--large', 'blobs')
    const child = spawn(join(python.bin, 'python'), ['-c', script(home, body)], { stdio: 'ignore' })
    const gone = once(child, 'exit')
    // Without a pause worth the name: all of it takes a second.
    while ((await partialBytes(blobs)) <= 8 * MiB && child.exitCode === null) await sleep(2)
    child.kill('SIGKILL')
    await gone
    const left = await partialBytes(blobs)
    const output = await python.run(script(home, body), [])
    const path = output.trim().split('\n').at(-1) ?? ''
    expect(await witnessSha256(path)).toBe(sha256(large))
    // It was killed in the middle: not before it began, and not after it was done.
    expect(left).toBeGreaterThan(8 * MiB)
    expect(left).toBeLessThan(large.length)
  })
})

test(
  'hf cache verify finds the digests that the tree has',
  { timeout: 5 * minute },
  async context => {
    const python = await client('1.33.0', context)
    const env = { ...process.env, HF_ENDPOINT: hub.url, HF_HOME: hub.file('verify') }
    const hf = join(python.bin, 'hf')
    await run(hf, ['download', 'org/model'], { env })
    // It exits with an error for each digest that differs.
    await expect(run(hf, ['cache', 'verify', 'org/model'], { env })).resolves.toBeDefined()
  },
)

test.for(['0.36.2', '2.0.0'])(
  'hf download of huggingface_hub %s fetches what only another node has',
  { timeout: 5 * minute },
  async (version, context) => {
    const python = await client(version, context)
    await using near = await openHubGateway()
    near.node.name('near/model', hub.node.link('org/model').link)
    const env = { ...process.env, HF_ENDPOINT: near.url, HF_HOME: near.file('home-of-hf') }
    const folder = near.file('out')
    const args = ['download', 'near/model', '--local-dir', folder]
    await run(join(python.bin, 'hf'), args, { env })
    const found = (await filesBelow(folder)).filter(path => !path.startsWith('.cache'))
    expect(found).toEqual(Object.keys(files).toSorted())
    const weights = await witnessSha256(join(folder, 'model.safetensors'))
    expect(weights).toBe(sha256(files['model.safetensors']))
  },
)

async function partialBytes(blobs: string): Promise<number> {
  const names = await readdir(blobs).catch(() => [])
  const partial = names.find(name => name.endsWith('.incomplete'))
  return partial === undefined ? 0 : (await stat(join(blobs, partial))).size
}

/** Through the links of the cache. */
async function filesIn(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true })
  const digests: Record<string, string> = {}
  for (const path of entries.toSorted()) {
    const place = join(folder, path)
    if ((await stat(place)).isFile()) digests[path] = await witnessSha256(place)
  }
  return digests
}

function expected(given: Readonly<Record<string, Uint8Array | string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(given).map(([path, bytes]) => [path, sha256(bytes)]))
}
