/** Ollama itself, where it is installed, pulls a model that only another node holds. */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { MiB, minute } from '../../src/core/units.ts'
import { freePort } from '../support/free-port.ts'
import { openHubGateway } from '../support/hub-gateway.ts'
import { witnessSha256 } from '../support/machine.ts'
import { seededBytes } from '../support/model-files.ts'
import { until } from '../support/poll.ts'
import { modelGguf } from '../support/weight-files.ts'
import { installed, needed } from './programs.ts'

const run = promisify(execFile)
const files = {
  'model-Q4_K_M.gguf': modelGguf(15, seededBytes('for ollama itself', 5 * MiB)),
  LICENSE: 'do what you like',
  params: '{"stop":["</s>"]}',
  system: 'You are kind.',
  template: '{{ .Prompt }}',
}

test('Ollama pulls, checks and shows a model', { timeout: 3 * minute }, async context => {
  needed(await installed('ollama'), context)
  await using far = await openHubGateway()
  await far.seed('Org/Model', files)
  await using near = await openHubGateway()
  near.node.name('org/model', far.node.link('Org/Model').link)
  await using server = await startOllama(near.file('home-of-ollama'))
  const name = `127.0.0.1:${near.port}/org/model:q4_k_m`
  await server.run('pull', '--insecure', name)
  const shown = await server.run('show', '--modelfile', name)
  expect(shown).toContain(`SYSTEM ${files.system}`)
  expect(shown).toContain('PARAMETER stop </s>')
  expect(shown).toContain(`LICENSE ${files.LICENSE}`)
  expect(await server.run('show', name)).toMatch(/quantization\s+Q4_K_M/u)
  for (const blob of await readdir(server.blobs)) {
    expect(`sha256-${await witnessSha256(join(server.blobs, blob))}`).toBe(blob)
  }
  const unknown = `127.0.0.1:${near.port}/org/model:q2_k`
  await expect(server.run('pull', '--insecure', unknown)).rejects.toThrow('there are Q4_K_M')
})

interface Ollama extends AsyncDisposable {
  readonly blobs: string
  run(...args: readonly string[]): Promise<string>
}

async function startOllama(home: string): Promise<Ollama> {
  const address = `127.0.0.1:${await freePort()}`
  const models = join(home, 'models')
  // Without its cloud it talks to nobody but us.
  const own = { HOME: home, OLLAMA_HOST: address, OLLAMA_MODELS: models, OLLAMA_NO_CLOUD: '1' }
  const env = { ...process.env, ...own }
  const child = spawn('ollama', ['serve'], { env, stdio: 'ignore' })
  const gone = once(child, 'exit')
  await until('Ollama answers', () =>
    fetch(`http://${address}/api/version`).then(
      () => true as const,
      () => undefined,
    ),
  )
  return {
    blobs: join(models, 'blobs'),
    async run(...args) {
      const { stdout } = await run('ollama', args, { env, timeout: minute })
      return stdout
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await gone
    },
  }
}
