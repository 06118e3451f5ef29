/**
 * `npm run bench:mirror`: a mirror of 1 GiB of safetensors from a hub on loopback, and again after changes: of the
 * metadata alone, of one tensor in sixteen. What counts is the bytes that the hub sends; both are in one
 * process, so that the time is that of both.
 */

import { parseArgs } from 'node:util'
import { formatBytes, GiB, MiB } from '../../src/core/units.ts'
import { openMirrorFixture } from '../support/mirror-fixture.ts'
import { openMockHub } from '../support/mock-hub.ts'
import { seededBytes, tensorFile } from '../support/model-files.ts'
import { Report } from './report.ts'

const { values } = parseArgs({ options: { write: { type: 'boolean', default: false } } })
const tensors = 256

function weights(metadata: string, isChanged: (tensor: number) => boolean): Buffer {
  const made = Array.from({ length: tensors }, (_, index) => {
    const seed = `bench ${index} ${isChanged(index) ? metadata : ''}`
    return [`model.layers.${index}.weight`, seededBytes(seed, GiB / tensors)] as const
  })
  return tensorFile(Object.fromEntries(made), { metadata })
}

const commits = [
  ['the first time', 'first', () => false],
  ['other metadata', 'second, and with more to say', () => false],
  ['16 of 256 tensors changed', 'third', (tensor: number) => tensor % 16 === 5],
] as const

const report = new Report('bench:mirror', ['1 GiB in 256 tensors'])
await using hub = await openMockHub()
await using here = await openMirrorFixture()
const rows: string[][] = []
const shares: number[] = []
for (const [what, metadata, isChanged] of commits) {
  const config = Buffer.from('{}')
  hub.commit('org/bench', {
    'model.safetensors': weights(metadata, isChanged),
    'config.json': config,
  })
  const before = hub.bytesSent.cdn + hub.bytesSent.hub
  const startedMs = performance.now()
  const { bytes } = await here.mirror({ ref: 'hf:org/bench', upstream: hub.url })
  const seconds = (performance.now() - startedMs) / 1000
  const sent = hub.bytesSent.cdn + hub.bytesSent.hub - before
  const share = (sent / bytes) * 100
  shares.push(share)
  const rate = `${(bytes / seconds / MiB).toFixed(0)} MiB/s`
  rows.push([what, `${seconds.toFixed(1)} s`, rate, formatBytes(sent), `${share.toFixed(3)} %`])
}
report.table(['mirrored', 'time', 'of the model', 'sent by the hub', 'of its bytes'], rows)
report.bar({
  name: 'sent by the hub after a change of the metadata of 1 GiB',
  value: shares[1] ?? 100,
  must: 1,
  goal: 0.1,
  more: false,
  unit: '%',
})
if (values.write) await report.write()
