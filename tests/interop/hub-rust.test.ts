/** The hf-hub crate, which candle, mistral.rs and text-generation-inference read models with. */

import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { MiB, minute } from '../../src/core/units.ts'
import { openHubGateway } from '../support/hub-gateway.ts'
import { witnessSha256 } from '../support/machine.ts'
import { seededBytes } from '../support/model-files.ts'
import { needed, rustProgram } from './programs.ts'

const files = {
  'config.json': '{"model_type":"none"}',
  'empty.txt': '',
  // Three of its ranges and a bit: the last one is asked for to a byte behind the end.
  'model.safetensors': seededBytes('weights', 31 * MiB + 5),
  'sub/tokenizer.json': '{}',
}

test('hf-hub, by one range and by many', { timeout: 6 * minute }, async context => {
  const client = needed(await rustProgram('hf-hub-client'), context)
  await using far = await openHubGateway()
  await far.seed('org/model', files)
  await using near = await openHubGateway()
  near.node.name('org/model', far.node.link('org/model').link)
  const printed = await client.run(near.url, 'org/model', near.file('of-rust'))
  const lines = printed
    .trim()
    .split('\n')
    .map(line => line.split(' '))
  const { headers } = await near.ask('/org/model/resolve/main/config.json', { method: 'HEAD' })
  expect(lines).toContainEqual(['sha', headers['x-repo-commit']])
  expect(lines).toContainEqual(['missing', 'true'])
  for (const api of ['sync', 'tokio']) {
    const found = lines.filter(([word]) => word === api)
    expect(found.map(([, path]) => path)).toEqual(Object.keys(files))
    for (const [, path = '', place = ''] of found) {
      const bytes = files[path as keyof typeof files]
      const digest = createHash('sha256').update(bytes).digest('hex')
      expect([path, await witnessSha256(place)]).toEqual([path, digest])
    }
  }
})
