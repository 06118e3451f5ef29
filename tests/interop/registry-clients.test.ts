/** Clients of registries: skopeo itself, and Ollama's way of pulling, over real HTTP. */

import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { adoptRequestSchema } from '../../src/api/adoption.ts'
import { MiB, minute } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { witnessSha256 } from '../support/machine.ts'
import { writeOllamaModel } from '../support/model-caches.ts'
import { filesBelow, seededBytes } from '../support/model-files.ts'
import { modelGguf } from '../support/weight-files.ts'
import { type FoundProgram, goProgram, installed, needed } from './programs.ts'

const timeout = 5 * minute
/** Two of Ollama's parts. */
const weights = modelGguf(15, seededBytes('weights for ollama', 104 * MiB))
const files = {
  'model-Q4_K_M.gguf': weights,
  'model-Q8_0.gguf': modelGguf(7, seededBytes('more weights', 3 * MiB)),
  'mmproj-F16.gguf': modelGguf(1, seededBytes('projector', MiB)),
  'sub/odd #1 name%.json': '{}',
  'same.json': '{}',
  'empty.txt': '',
  template: '{{ .Prompt }}',
}

let hub: HubGateway
beforeAll(async () => {
  hub = await openHubGateway()
  await hub.seed('Org/Model', files)
})
afterAll(() => hub[Symbol.asyncDispose]())

interface Pulled {
  readonly parts: number
  readonly config: object
  readonly layers: Readonly<Record<string, string>>
}

async function ollamaPull(client: FoundProgram, from: HubGateway, name: string): Promise<Pulled> {
  const folder = from.file(`ollama-${name.replaceAll(/\W/gu, '-')}`)
  await mkdir(folder, { recursive: true })
  return JSON.parse(await client.run(`127.0.0.1:${from.port}/${name}`, folder)) as Pulled
}

test("Ollama's way of pulling gets every layer whole, in parts", { timeout }, async context => {
  const client = needed(await goProgram('ollama-client'), context)
  const { config, layers, parts } = await ollamaPull(client, hub, 'org/model')
  // Two of the weights, and one of each other layer and of the config.
  expect(parts).toBe(5)
  expect(config).toEqual({ model_format: 'gguf', model_family: 'llama', file_type: 'Q4_K_M' })
  const model = await readFile(layers['application/vnd.ollama.image.model'] ?? '')
  expect(model.equals(weights)).toBe(true)
  const template = await readFile(layers['application/vnd.ollama.image.template'] ?? '', 'utf8')
  expect(template).toBe(files.template)
})

test('and from a node that has nothing of it yet', { timeout }, async context => {
  const client = needed(await goProgram('ollama-client'), context)
  await using near = await openHubGateway()
  near.node.name('near/model', hub.node.link('Org/Model').link)
  const { layers } = await ollamaPull(client, near, 'near/model:q8_0')
  const model = await readFile(layers['application/vnd.ollama.image.model'] ?? '')
  expect(model.equals(files['model-Q8_0.gguf'])).toBe(true)
})

test(
  'what Ollama has is adopted from its store, and pulled by Ollama elsewhere as it was',
  { timeout },
  async context => {
    const client = needed(await goProgram('ollama-client'), context)
    await using near = await openHubGateway()
    const store = near.file('ollama')
    const given = {
      model: modelGguf(15, seededBytes('weights of a store', 3 * MiB)),
      projector: modelGguf(1, seededBytes('projector of a store', MiB)),
      template: '{{ .System }} {{ .Prompt }}',
      license: 'MIT',
      params: '{"stop":["x"]}',
    }
    const layers = Object.entries(given).map(([kind, bytes]) => ({ kind, bytes }))
    await writeOllamaModel(store, 'registry.ollama.ai/library/tiny/8b', layers)
    const request = adoptRequestSchema.parse({ kind: 'adopt', ollama: [store] })
    const signal = new AbortController().signal
    await near.node.adopt(request, { signal, onEvent: () => undefined })
    const pulled = await ollamaPull(client, near, 'tiny-8b')
    const bytes = Object.entries(given).map(async ([kind, wanted]) => {
      const place = pulled.layers[`application/vnd.ollama.image.${kind}`] ?? ''
      return [kind, Buffer.compare(await readFile(place), Buffer.from(wanted))]
    })
    expect(Object.fromEntries(await Promise.all(bytes))).toEqual({
      model: 0,
      projector: 0,
      template: 0,
      license: 0,
      params: 0,
    })
  },
)

test('and is told in words what went wrong', { timeout }, async context => {
  const client = needed(await goProgram('ollama-client'), context)
  await expect(ollamaPull(client, hub, 'org/model:q2_k')).rejects.toThrow('Q4_K_M, Q8_0')
  await expect(ollamaPull(client, hub, 'org/none')).rejects.toThrow('file does not exist')
})

test('skopeo copies every file, and the digest of the manifest', { timeout }, async context => {
  const skopeo = needed(await installed('skopeo'), context)
  const image = `docker://127.0.0.1:${hub.port}/org/model`
  const tags: unknown = JSON.parse(await skopeo.run('list-tags', '--tls-verify=false', image))
  expect(tags).toMatchObject({ Tags: ['Q4_K_M', 'Q8_0', 'latest'] })
  const raw = await skopeo.run('inspect', '--tls-verify=false', '--raw', `${image}:latest`)
  const { layers } = JSON.parse(raw) as {
    layers: { digest: string; annotations: Record<string, string> }[]
  }
  const folder = hub.file('copied')
  await skopeo.run(
    '--insecure-policy',
    'copy',
    '--src-tls-verify=false',
    `${image}:latest`,
    `oci:${folder}:latest`,
  )
  const index = JSON.parse(await readFile(join(folder, 'index.json'), 'utf8')) as {
    manifests: { digest: string }[]
  }
  const digest = await hub.ask('/v2/org/model/manifests/latest', { method: 'HEAD' })
  expect(index.manifests.map(each => each.digest)).toEqual([
    digest.headers['docker-content-digest'],
  ])
  const blobs = join(folder, 'blobs', 'sha256')
  for (const name of await readdir(blobs)) expect(await witnessSha256(join(blobs, name))).toBe(name)
  const titled = layers.map(layer => layer.annotations['org.opencontainers.image.title'] ?? '')
  expect(titled.toSorted()).toEqual(Object.keys(files).toSorted())
  for (const { digest: layer } of layers) {
    expect(await readdir(blobs)).toContain(layer.replace('sha256:', ''))
  }
})

test('skopeo copies one quant by its tag, and by digest', { timeout }, async context => {
  const skopeo = needed(await installed('skopeo'), context)
  const image = `docker://127.0.0.1:${hub.port}/org/model`
  const { headers } = await hub.ask('/v2/org/model/manifests/q8_0', { method: 'HEAD' })
  const references = [':q8_0', `@${String(headers['docker-content-digest'])}`]
  for (const [at, reference] of references.entries()) {
    const folder = hub.file(`copied-${at}`)
    const from = `${image}${reference}`
    await skopeo.run('--insecure-policy', 'copy', '--src-tls-verify=false', from, `dir:${folder}`)
    const names = await readdir(folder)
    expect(names).toContain(await sha256Of('model-Q8_0.gguf'))
    expect(names).not.toContain(await sha256Of('model-Q4_K_M.gguf'))
  }
})

test('oras writes the files of a tag under their paths', { timeout }, async context => {
  const oras = needed(await installed('oras', 'version'), context)
  const folder = hub.file('of-oras')
  const image = `127.0.0.1:${hub.port}/org/model:q8_0`
  await oras.run('pull', '--plain-http', '--output', folder, image)
  const names = ['mmproj-F16.gguf', 'model-Q8_0.gguf', 'template']
  expect(await filesBelow(folder)).toEqual(names)
  const found = await readFile(join(folder, 'model-Q8_0.gguf'))
  expect(found.equals(files['model-Q8_0.gguf'])).toBe(true)
})

async function sha256Of(name: string): Promise<string> {
  return witnessSha256(hub.file(join('Org-Model', name)))
}
