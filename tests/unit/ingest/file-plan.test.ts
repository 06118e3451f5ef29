/** Open files as sources. */

import { closeSync, openSync, truncateSync, writeFileSync } from 'node:fs'
import { afterAll, expect, test } from 'vitest'
import { descriptorSource, readFully } from '../../../src/ingest/file-plan.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const scratch = await openScratchFolder()
const place = scratch.file('file')
writeFileSync(place, 'hello world')
const fd = openSync(place, 'r')
afterAll(async () => {
  closeSync(fd)
  await scratch[Symbol.asyncDispose]()
})

test('reads exactly the range asked for', async () => {
  const source = descriptorSource(fd, 11)
  expect(Buffer.from(await source.readAt(6, 5)).toString()).toBe('world')
  await expect(source.readAt(6, 6)).rejects.toThrow(RangeError)
  await expect(source.readAt(-1, 2)).rejects.toThrow(RangeError)
})

test('rejects when the file has become shorter than it was', async () => {
  const source = descriptorSource(fd, 11)
  truncateSync(place, 8)
  await expect(source.readAt(6, 5)).rejects.toThrow(RangeError)
  expect(readFully(fd, new Uint8Array(5), 6)).toBe(2)
})
