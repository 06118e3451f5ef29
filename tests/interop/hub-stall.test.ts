/** The only holder of a file freezes in the middle of it for half a minute: downloads finish all the same. */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { statusSchema } from '../../src/api/contract.ts'
import { MiB, minute, second } from '../../src/core/units.ts'
import { openStage, seed, show, succeeded } from '../support/end-to-end.ts'
import { startMachine, witnessSha256 } from '../support/machine.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'
import { pythonWith } from './python.ts'

const run = promisify(execFile)
const versions = ['0.36.2', '2.0.0']
const weights = seededBytes('weights that stall', 48 * MiB)
const frozenMs = 30 * second

test(
  'huggingface_hub, old and new, outlasts a frozen peer',
  { timeout: 5 * minute },
  async context => {
    const pythons = await Promise.all(
      versions.map(each => pythonWith([`huggingface_hub==${each}`])),
    )
    const missing = pythons.find(python => !python.found)
    if (missing?.found === false) return context.skip(missing.reason)
    await using stage = await openStage()
    await using far = await startMachine(stage.world, 'far', [], {
      env: { COMMONWEIGHT_BANDWIDTH_MAX_UP: '6MiB', COMMONWEIGHT_BANDWIDTH_LIMIT_LAN: 'true' },
    })
    const folder = await writeFiles(stage.file('model'), { 'model.safetensors': weights })
    const { link } = await seed(far, folder)
    await using near = await startMachine(stage.world, 'near', [], {
      env: { COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0' },
    })
    succeeded(await near.cw('name', 'org/model', link))
    const { gateway } = statusSchema.parse((await near.cw('status')).last)
    const downloads = pythons.map(async (python, at) => {
      const home = stage.file(`hf-${at}`)
      // The client's own patience: what commonweight env would lengthen.
      const env = { ...process.env, HF_ENDPOINT: gateway ?? '', HF_HOME: home }
      const hf = join(python.found ? python.bin : '', 'hf')
      const args = ['download', 'org/model', '--local-dir', join(home, 'out')]
      await run(hf, args, { env, timeout: 3 * minute })
      return witnessSha256(join(home, 'out', 'model.safetensors'))
    })
    const ended = Promise.all(downloads)
    ended.catch(() => undefined)
    await until('a part of it is here', async () => {
      const [file] = (await show(near, 'org/model').catch(() => ({ files: [] }))).files
      return (file?.chunksHeld ?? 0) > 4 ? true : undefined
    })
    process.kill(far.pid, 'SIGSTOP')
    const { files } = await show(near, 'org/model')
    await sleep(frozenMs)
    process.kill(far.pid, 'SIGCONT')
    // It froze in the middle.
    expect(files[0]?.chunksHeld).toBeLessThan(40)
    const digest = createHash('sha256').update(weights).digest('hex')
    expect(await ended).toEqual(versions.map(() => digest))
  },
)
