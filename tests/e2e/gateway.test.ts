/** The gateway of a real daemon, through the commands that a person types. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { statusSchema } from '../../src/api/contract.ts'
import { openStage, seed, succeeded } from '../support/end-to-end.ts'
import { type Machine, runCw, startMachine } from '../support/machine.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const run = promisify(execFile)
const weights = seededBytes('weights', 3_000_000)

test('a program that run starts reads what another node holds', async () => {
  await using stage = await openStage()
  const far = await stage.start('far')
  const folder = await writeFiles(stage.file('model'), { 'model.safetensors': weights })
  const { link } = await seed(far, folder, '--name', 'far/model')
  const env = { COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0' }
  await using near: Machine = await startMachine(stage.world, 'near', [], { env })
  expect(succeeded(await near.cw('name', 'org/model', link)).last).toMatchObject({
    type: 'named',
    name: 'org/model',
    held: false,
  })
  const out = stage.file('out.bin')
  const script = `curl --silent --fail --output '${out}' "$HF_ENDPOINT/org/model/resolve/main/model.safetensors"`
  await run(stage.world.command, ['--home', near.home, 'run', '--', 'sh', '-c', script])
  await run('cmp', [out, `${folder}/model.safetensors`])
})

test('what was read is a cache: kept over a kill, trimmed by the next start, never what is pinned', async () => {
  await using stage = await openStage()
  const far = await stage.start('far')
  const links: string[] = []
  for (const name of ['one', 'two']) {
    const files = { 'model.safetensors': seededBytes(name, 3_000_000) }
    const folder = await writeFiles(stage.file(`model-${name}`), files)
    links.push((await seed(far, folder)).link)
  }
  const env = { COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0' }
  const held = async (near: Machine): Promise<unknown[]> => {
    const { lines } = succeeded(await near.cw('ls'))
    return lines.map(({ name, bytesHeld, pinned }) => ({ name, bytesHeld, pinned }))
  }
  {
    await using near = await startMachine(stage.world, 'near', [], { env })
    for (const [at, link] of links.entries()) {
      succeeded(await near.cw('name', `org/m${at}`, link))
      const { gateway } = statusSchema.parse((await near.cw('status')).last)
      const url = `${gateway}/org/m${at}/resolve/main/model.safetensors`
      const { stdout } = await run('sh', ['-c', `curl --silent --fail '${url}' | wc -c`])
      expect(Number(stdout)).toBe(3_000_000)
    }
    succeeded(await near.cw('pin', 'org/m0'))
    await near.kill()
  }
  const small = { ...env, COMMONWEIGHT_GATEWAY_CACHE_BYTES: '1MB' }
  await using near = await startMachine(stage.world, 'near', [], { env: small })
  const { lines } = succeeded(await near.cw('config'))
  const running = { value: 1_000_000, source: 'environment', from: expect.any(String) }
  expect(lines).toContainEqual(expect.objectContaining({ key: 'gateway.cache_bytes', running }))
  await until('the one that is not pinned was evicted', async () => {
    const bytes = (await held(near)).map(each => (each as { bytesHeld: number }).bytesHeld)
    return bytes.includes(0) ? true : undefined
  })
  expect(await held(near)).toEqual([
    { name: 'org/m0', bytesHeld: 3_000_000, pinned: true },
    { name: 'org/m1', bytesHeld: 0, pinned: false },
  ])
})

test('run ends as its command ends, and needs a gateway', async () => {
  await using stage = await openStage()
  const machine = await stage.start('without')
  const { code, last } = await machine.cw('run', '--', 'true')
  expect([code, last]).toEqual([5, expect.objectContaining({ code: 'UNAVAILABLE' })])
  const env = { COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0' }
  await using other = await startMachine(stage.world, 'with', [], { env })
  expect((await other.cw('run', '--', 'sh', '-c', 'exit 7')).code).toBe(7)
  expect((await other.cw('run', '--', 'sh', '-c', 'kill -TERM $$')).code).toBe(143)
  expect((await other.cw('run', '--', 'no-such-program')).code).toBe(2)
  expect((await runCw(stage.world, other.home, ['env'])).last).toMatchObject({
    type: 'environment',
    variables: { HF_ENDPOINT: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) },
  })
})

test('a name is one that clients of a hub can ask for', async () => {
  await using stage = await openStage()
  const machine = await stage.start('names')
  const folder = await writeFiles(stage.file('model'), { 'a.bin': weights })
  const { manifest } = await seed(machine, folder)
  for (const name of ['a--b', 'a/b/c', '../x', 'ä/b', '-x/y']) {
    expect((await machine.cw('name', '--', name, manifest)).code).toBe(2)
  }
  expect(succeeded(await machine.cw('name', 'org/model', manifest)).last).toMatchObject({
    held: true,
  })
  expect(succeeded(await machine.cw('show', 'org/model')).lines[0]).toMatchObject({ manifest })
})

test('names are listed, and one that is only bound to a link is forgotten by rm', async () => {
  await using stage = await openStage()
  const machine = await stage.start('names')
  const folder = await writeFiles(stage.file('model'), { 'a.bin': weights })
  const { manifest } = await seed(machine, folder, '--name', 'org/here')
  const far = 'bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje'
  succeeded(await machine.cw('name', 'org/far', `cw://${far}`))
  const here = { type: 'named', name: 'org/here', manifest, held: true }
  expect(succeeded(await machine.cw('name')).lines).toEqual([
    { type: 'named', name: 'org/far', manifest: far, held: false },
    here,
  ])
  expect((await machine.cw('name', 'org/far')).code).toBe(2)
  expect(succeeded(await machine.cw('rm', 'org/far')).last).toMatchObject({ manifest: far })
  expect(succeeded(await machine.cw('name')).lines).toEqual([here])
  expect((await machine.cw('rm', 'org/far')).code).toBe(4)
})
