/**
 * The victim of the crash loop: fetches one file into a partial, chunk by chunk in a shuffled order, and
 * says on stdout which chunks it was told are written. It is killed at any moment.
 *
 *   node crash-child.ts FOLDER ORDER_SEED
 */

import { join } from 'node:path'
import { openTestStore, partialSpec, testModel } from '../support/store-fixture.ts'
import { crashFile, shuffled } from '../support/crash-file.ts'

const [folder = '', seed = '0'] = process.argv.slice(2)
const target = join(folder, 'target')
const file = crashFile()
await using store = await openTestStore(folder)
store.addModel(testModel(target, { 'weights.bin': file }, { origin: 'pulled' }))
await using partial = await store.openPartial(partialSpec(target, 'weights.bin', file))
process.stdout.write(`open ${partial.held.count}\n`)

const wanted = [...file.blocks.keys()].filter(index => !partial.held.has(index))
const write = async (index: number): Promise<void> => {
  const block = file.blocks[index]
  if (block !== undefined) await partial.write(index, block)
  process.stdout.write(`${index}\n`)
}
// Eight at a time, as a download does.
const order = shuffled(wanted, Number(seed))
await Promise.all(
  Array.from({ length: 8 }, async () => {
    for (let index = order.pop(); index !== undefined; index = order.pop()) await write(index)
  }),
)
await partial.publish()
process.stdout.write('published\n')
