/** The hub's own client takes the hub of our tests for one: what mirroring is tested against behaves as the real one. */

import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { adoptRequestSchema } from '../../src/api/adoption.ts'
import { KiB, MiB, minute } from '../../src/core/units.ts'
import { openHubGateway } from '../support/hub-gateway.ts'
import { openMirrorFixture } from '../support/mirror-fixture.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { filesBelow, seededBytes } from '../support/model-files.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'
import { pythonWith } from './python.ts'

const versions = ['0.36.2', '2.0.0'] as const
const files = {
  '.gitattributes': Buffer.from('*.bin filter=lfs\n'),
  'config.json': Buffer.from('{}'),
  'empty.txt': Buffer.alloc(0),
  'model.bin': seededBytes('mock hub', 11 * MiB + 5),
  'sub dir/odd #1 name%.json': seededBytes('odd', 3 * KiB),
}

let hub: MockHub
let scratch: ScratchFolder
let commit: string

beforeAll(async () => {
  scratch = await openScratchFolder()
  hub = await openMockHub({ pageEntries: 2, token: 'hf_secret' })
  commit = hub.commit('org/Model', files)
  hub.repo('org/gated', { gated: 'manual' })
  hub.commit('org/gated', files)
})

afterAll(async () => {
  await hub[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

/** What the client says of the repository, what it downloads, and how it calls what it may not have. */
const script = `
import hashlib, json, os, sys
os.environ.update(HF_ENDPOINT=sys.argv[1], HF_HOME=sys.argv[2], HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")
for name in ("HF_TOKEN", "HF_HUB_OFFLINE"): os.environ.pop(name, None)
from huggingface_hub import HfApi, snapshot_download, hf_hub_download, get_hf_file_metadata, hf_hub_url
api = HfApi()
def fails(work):
    try: work()
    except Exception as error: return type(error).__name__
def attempt(work):
    try: return work()
    except Exception as error: return type(error).__name__
folder = snapshot_download("org/Model")
info = api.model_info("org/Model", files_metadata=False)
head = get_hf_file_metadata(hf_hub_url("org/Model", "model.bin"))
print(json.dumps({
    "folder": folder,
    "sha": info.sha,
    "gated": attempt(lambda: api.model_info("org/gated").gated),
    "tree": sorted((e.path, e.blob_id, e.lfs.sha256 if e.lfs else None) for e in api.list_repo_tree("org/Model", recursive=True) if hasattr(e, "blob_id")),
    "main": [b.target_commit for b in api.list_repo_refs("org/Model").branches],
    "head": [head.commit_hash, head.etag, head.size],
    "errors": [
        fails(lambda: hf_hub_download("org/none", "x")),
        fails(lambda: hf_hub_download("org/Model", "none")),
        fails(lambda: hf_hub_download("org/Model", "config.json", revision="nowhere")),
        fails(lambda: hf_hub_download("org/gated", "config.json")),
    ],
    "token": attempt(lambda: os.path.basename(hf_hub_download("org/gated", "config.json", token="hf_secret"))),
    "files": sorted([os.path.relpath(os.path.join(d, f), folder), hashlib.sha256(open(os.path.join(d, f), "rb").read()).hexdigest()] for d, _, fs in os.walk(folder) for f in fs),
}))
`

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

describe.for(versions)('huggingface_hub %s', version => {
  test(
    'reads the hub of our tests, and agrees with what is mirrored',
    { timeout: 5 * minute },
    async context => {
      const python = await pythonWith([`huggingface_hub==${version}`])
      if (!python.found) return context.skip(python.reason)
      const home = scratch.file(`home-${version}`)
      const seen = JSON.parse(await python.run(script, [hub.url, home])) as Record<string, unknown>
      expect(seen).toMatchObject({
        sha: commit,
        gated: 'manual',
        main: [commit],
        head: [commit, sha256(files['model.bin']), files['model.bin'].length],
        errors: [
          'RepositoryNotFoundError',
          expect.stringMatching(/EntryNotFoundError$/u),
          'RevisionNotFoundError',
          'GatedRepoError',
        ],
        token: 'config.json',
        files: Object.entries(files)
          .map(([path, bytes]) => [path, sha256(bytes)])
          .toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1)),
      })
      await using here = await openMirrorFixture()
      const mirrored = await here.mirror({ ref: 'hf:org/Model', upstream: hub.url })
      expect(mirrored.commit).toBe(seen['sha'])
      expect(await filesBelow(mirrored.path)).toEqual(Object.keys(files).toSorted())
      const tree = seen['tree'] as [string, string, string | null][]
      const { decodeManifest } = await import('../../src/manifest/manifest.ts')
      const [model] = here.store.models()
      const block = model === undefined ? undefined : here.store.manifestBlock(model.manifest)
      const manifest = decodeManifest(block as Uint8Array)
      expect(
        manifest.files.map(({ path, gitOid, lfs, sha256: digest }) => {
          return [path, gitOid, lfs === true ? Buffer.from(digest).toString('hex') : null]
        }),
      ).toEqual(tree)
      await rm(home, { recursive: true, force: true })
      return undefined
    },
  )

  test(
    'downloads through a gateway that passes the hub through what it would from the hub',
    { timeout: 5 * minute },
    async context => {
      const python = await pythonWith([`huggingface_hub==${version}`])
      if (!python.found) return context.skip(python.reason)
      await using gateway = await openHubGateway({ upstream: hub.url })
      const home = scratch.file(`through-${version}`)
      const read = async (endpoint: string): Promise<unknown> => {
        const { files: found } = JSON.parse(
          await python.run(script, [endpoint, join(home, endpoint.slice(-5))]),
        ) as { files: unknown }
        return found
      }
      const direct = await read(hub.url)
      const before = hub.bytesSent.cdn
      expect(await read(gateway.url)).toEqual(direct)
      expect(hub.bytesSent.cdn - before).toBe(files['model.bin'].length)
      await expect
        .poll(() => gateway.node.models(new AbortController().signal))
        .toMatchObject([{ name: 'org/Model', state: 'complete' }])
      await rm(home, { recursive: true, force: true })
      return undefined
    },
  )
})

test(
  "a cache of the hub's client, adopted, is the model that a mirror of the commit is",
  { timeout: 5 * minute },
  async context => {
    const python = await pythonWith(['huggingface_hub==2.0.0'])
    if (!python.found) return context.skip(python.reason)
    const home = scratch.file('adopted')
    await python.run(script, [hub.url, home])
    await using gateway = await openHubGateway()
    const request = adoptRequestSchema.parse({ kind: 'adopt', hf: [join(home, 'hub')] })
    const { signal } = new AbortController()
    await gateway.node.adopt(request, { signal, onEvent: () => undefined })
    const adopted = (await gateway.node.models(signal)).find(({ name }) => name === 'org/Model')
    await using here = await openMirrorFixture()
    const mirrored = await here.mirror({ ref: 'hf:org/Model', upstream: hub.url })
    expect(adopted?.manifest).toBe(mirrored.manifest)
    return undefined
  },
)
