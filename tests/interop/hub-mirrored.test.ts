/** hf downloads one model from its hub and, mirrored, from the gateway: the two caches are the same. */

import { execFile } from 'node:child_process'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { mirrorRequestSchema } from '../../src/api/contract.ts'
import { MiB, minute } from '../../src/core/units.ts'
import { openHubGateway } from '../support/hub-gateway.ts'
import { openMockHub } from '../support/mock-hub.ts'
import { seededBytes } from '../support/model-files.ts'
import { pythonWith } from './python.ts'

const run = promisify(execFile)
const id = 'Org/Model'
const files = {
  '.gitattributes': Buffer.from('*.safetensors filter=lfs\n'),
  'config.json': Buffer.from('{"model_type":"none"}'),
  'empty.txt': Buffer.alloc(0),
  'model.safetensors': seededBytes('mirrored', 3 * MiB + 5),
  'sub dir/tokenizer.json': Buffer.from('{}'),
}

test.for(['0.36.2', '1.33.0', '2.0.0'])(
  'huggingface_hub %s keeps the same files by the same names',
  { timeout: 5 * minute },
  async (version, context) => {
    const python = await pythonWith([`huggingface_hub==${version}`])
    if (!python.found) return context.skip(python.reason)
    await using upstream = await openMockHub()
    upstream.repo(id)
    const commit = upstream.commit(id, files)
    await using gateway = await openHubGateway()
    const request = { kind: 'mirror', ref: `hf:${id}`, upstream: upstream.url }
    const signal = new AbortController().signal
    const options = { signal, onEvent: () => undefined }
    await gateway.node.mirror(mirrorRequestSchema.parse(request), options)
    const hf = join(python.bin, 'hf')
    const cacheFrom = async (url: string, name: string): Promise<Record<string, string>> => {
      const home = gateway.file(name)
      const env = { ...process.env, HF_ENDPOINT: url, HF_HOME: home, HF_HUB_DISABLE_XET: '1' }
      await run(hf, ['download', id], { env, timeout: minute })
      return contentsOf(join(home, 'hub', 'models--Org--Model'))
    }
    const ofHub = await cacheFrom(upstream.url, 'of-the-hub')
    const ofGateway = await cacheFrom(gateway.url, 'of-the-gateway')
    expect(ofGateway).toEqual(ofHub)
    expect(Object.keys(ofGateway)).toContain(`snapshots/${commit}/sub dir/tokenizer.json`)
  },
)

/** Each file's content, and where each link leads. */
async function contentsOf(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const contents: Record<string, string> = {}
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name)
    const name = path.slice(folder.length + 1)
    if (entry.isSymbolicLink()) contents[name] = `link to ${await readlink(path)}`
    else if (entry.isFile()) contents[name] = await readFile(path, 'latin1')
  }
  return contents
}
