/**
 * Fetches and publishes one file while strace makes a system call fail; prints how each step ended.
 *
 *   node disk-child.ts FOLDER
 */

import { join } from 'node:path'
import { CommonweightError } from '../../src/core/errors.ts'
import { crashFile } from '../support/crash-file.ts'
import { openTestStore, partialSpec, writeChunks } from '../support/store-fixture.ts'

const [folder = ''] = process.argv.slice(2)
const file = crashFile()

async function step(name: string, work: () => Promise<unknown>): Promise<void> {
  let ended = 'ok'
  try {
    await work()
  } catch (error) {
    ended = error instanceof CommonweightError ? error.code : String(error)
  }
  process.stdout.write(`${name} ${ended}\n`)
}

await using store = await openTestStore(folder)
const partial = await store.openPartial(partialSpec(join(folder, 'target'), 'weights.bin', file))
process.stdout.write(`held ${partial.held.count}\n`)
const missing = [...file.blocks.keys()].filter(index => !partial.held.has(index))
await step('write', () => writeChunks(partial, file, missing))
process.stdout.write(`written ${partial.held.count}\n`)
await step('publish', () => partial.publish())
await step('write-after', () => writeChunks(partial, file, [0]))
process.stdout.write(`left ${partial.held.count}\n`)
await step('close', () => partial[Symbol.asyncDispose]())
