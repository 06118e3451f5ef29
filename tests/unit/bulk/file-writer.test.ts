import { closeSync, openSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { writeAt } from '../../../src/bulk/file-writer.ts'
import { StorageError } from '../../../src/core/errors.ts'
import { writePieceBytes } from '../../../src/core/limits.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

test('writes more than one piece to its offset', async () => {
  await using folder = await openScratchFolder()
  const path = folder.file('weights.bin')
  const bytes = Uint8Array.from({ length: 2 * writePieceBytes + 5 }, (_, at) => at % 251)
  const fd = openSync(path, 'w')
  writeAt(fd, bytes, 3)
  closeSync(fd)
  expect(Buffer.compare(readFileSync(path), Buffer.concat([new Uint8Array(3), bytes]))).toBe(0)
})

test.skipIf(process.platform !== 'linux')('says why when the disk is full', () => {
  const fd = openSync('/dev/full', 'w')
  const write = (): void => writeAt(fd, new Uint8Array(10), 0)
  expect(write).toThrow(StorageError)
  expect(write).toThrow(/ENOSPC/)
  closeSync(fd)
})
