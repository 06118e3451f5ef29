/** From a folder to the identity of a model. */

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { link, mkdir, rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.ts'
import { MiB } from '../../../src/core/units.ts'
import { findFiles, type FoundFile } from '../../../src/ingest/folder.ts'
import { type HashedFile, openHashPool } from '../../../src/ingest/hash-file.ts'
import { type ImportProgress, importFiles, openImport } from '../../../src/ingest/import-files.ts'
import { comparePaths } from '../../../src/manifest/paths.ts'
import { decodeManifest, encodeManifest, manifestCid } from '../../../src/manifest/manifest.ts'
import { sameStamp } from '../../../src/core/file-stamp.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const scratch = await openScratchFolder()
const pool = openHashPool({ workers: 2 })
const folder = scratch.file('model')
const weights = randomBytes(9 * MiB)

beforeAll(async () => {
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{}')
  await writeFile(join(folder, 'empty'), '')
  await writeFile(join(folder, 'model.bin'), weights)
  await link(join(folder, 'model.bin'), join(folder, 'same.bin'))
})
afterAll(async () => {
  await pool[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

const bytesTotal = 2 * weights.length + 2

test('makes the manifest of a folder, each file hashed once', async () => {
  const steps: ImportProgress[] = []
  const found = await findFiles([folder])
  const model = await importFiles({ pool }, found, { onProgress: step => steps.push(step) })
  expect(model.manifest.files.map(({ path, size }) => [path, size])).toEqual([
    ['config.json', 2],
    ['empty', 0],
    ['model.bin', weights.length],
    ['same.bin', weights.length],
  ])
  expect(model.files.map(({ file }) => file.place)).toEqual(
    ['config.json', 'empty', 'model.bin', 'same.bin'].map(name => join(folder, name)),
  )
  const expected = createHash('sha256').update(weights).digest('hex')
  expect(model.files.slice(2).map(({ file }) => toHex(file.sha256))).toEqual([expected, expected])
  expect(model).toMatchObject({ bytes: bytesTotal, bytesReused: weights.length })
  expect(toHex(encodeManifest(decodeManifest(model.block)))).toBe(toHex(model.block))
  expect(model.cid.toString()).toBe(manifestCid(model.block).toString())
  const last = { filesDone: 4, filesTotal: 4, bytesDone: bytesTotal, bytesTotal }
  expect(steps.at(-1)).toMatchObject(last)
})

test('gives the same CID whatever the folder is called and whenever it was written', async () => {
  const before = await importFiles({ pool }, await findFiles([folder]))
  await rename(folder, scratch.file('renamed'))
  await utimes(join(scratch.file('renamed'), 'config.json'), 1, 1)
  const after = await importFiles({ pool }, await findFiles([scratch.file('renamed')]))
  await rename(scratch.file('renamed'), folder)
  expect(after.cid.toString()).toBe(before.cid.toString())
})

test('does not hash what is known and unchanged', async () => {
  const first = await importFiles({ pool }, await findFiles([folder]))
  const files = new Map<string, HashedFile>(first.files.map(({ file }) => [file.place, file]))
  await writeFile(join(folder, 'config.json'), '[]')
  const hashed: string[] = []
  const watched = {
    ...pool,
    hashFiles: (places: readonly string[], options: object) => {
      hashed.push(...places)
      return pool.hashFiles(places, options)
    },
  }
  const second = await importFiles(
    {
      pool: watched,
      known: found =>
        found.flatMap(({ place, stamp }) => {
          const file = files.get(place)
          return file !== undefined && sameStamp(file.stamp, stamp) ? file : []
        }),
    },
    await findFiles([folder]),
  )
  expect(hashed).toEqual([join(folder, 'config.json')])
  expect(second.bytesReused).toBe(2 * weights.length)
  expect(second.cid.toString()).not.toBe(first.cid.toString())
})

test('fails with the first file that fails, and with the reason of an abort', async () => {
  const found = await findFiles([folder])
  const gone = found.map(file => ({ ...file, place: `${file.place}-gone`, identity: file.path }))
  await expect(importFiles({ pool }, [...found.slice(0, 2), ...gone.slice(2)])).rejects.toThrow(
    /-gone.*ENOENT/,
  )
  const reason = new Error('enough')
  const signal = AbortSignal.abort(reason)
  await expect(importFiles({ pool }, found, { signal })).rejects.toBe(reason)
})

test('hashes what was found while more is looked for, and reads no second name of it', async () => {
  const [config, empty, model, same] = await findFiles([folder])
  const places: string[] = []
  const runs: Promise<unknown>[] = []
  const watched = {
    ...pool,
    hashFiles(hashed: readonly string[], options: object) {
      places.push(...hashed)
      const run = pool.hashFiles(hashed, options)
      runs.push(run)
      return run
    },
  }
  await using importing = openImport({ pool: watched })
  // As many as are taken at once, all of them names of two files.
  const names = Array.from({ length: 1023 }, (_, index) => ({ ...config, path: `name-${index}` }))
  importing.add([model, ...names] as FoundFile[])
  await Promise.all(runs)
  importing.add([config, empty, same] as FoundFile[])
  const imported = await importing.finish()
  expect(places.toSorted(comparePaths)).toEqual(
    ['config.json', 'empty', 'model.bin'].map(name => join(folder, name)),
  )
  expect(imported.manifest.files).toHaveLength(1027)
  expect(imported.bytes).toBe(bytesTotal + 2 * 1023)
  expect(imported.bytesReused).toBe(imported.bytes - weights.length - 2)
})

test('a file that fails ends the search for more', async () => {
  const [file] = await findFiles([folder])
  const gone = Array.from({ length: 1024 }, (_, index) => {
    return {
      ...file,
      place: `${folder}/gone-${index}`,
      path: `gone-${index}`,
      identity: `${index}`,
    }
  })
  await using importing = openImport({ pool })
  importing.add(gone as FoundFile[])
  await once(importing.signal, 'abort')
  await expect(findFiles([folder], { signal: importing.signal })).rejects.toThrow(/gone-.*ENOENT/)
  await expect(importing.finish()).rejects.toThrow(/gone-.*ENOENT/)
})
