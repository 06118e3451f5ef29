/**
 * kill -9 at random moments of a download: no bit without its bytes, little fetched again, and the file
 * right in the end. CRASH_ROUNDS makes it longer.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, link, mkdir, open, readFile, rename, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Bitfield } from '../../src/core/bitfield.ts'
import { sha256 } from '../../src/core/digest.ts'
import { minute } from '../../src/core/units.ts'
import { crashFile } from '../support/crash-file.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { openTestStore, partialSpec, testFile, writeChunks } from '../support/store-fixture.ts'

const rounds = Number(process.env['CRASH_ROUNDS'] ?? 20)
const file = crashFile()
/** Finished chunks that kill -9 may cost: fewer than are written between two records of the bits. */
const lostMax = 8

interface Round {
  readonly heldAtOpen: number
  /** Writes that were reported done. */
  readonly written: number[]
  readonly published: boolean
}

async function crashAfter(folder: string, seed: number, delayMs: number): Promise<Round> {
  await mkdir(folder, { recursive: true })
  const script = join(import.meta.dirname, 'crash-child.ts')
  const child = spawn(process.execPath, [script, folder, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => void (text += part))
  const closed = once(child, 'close')
  // The time to fall down counts from the moment there is something to lose.
  while (!text.includes('\n') && child.exitCode === null) await sleep(1)
  await Promise.race([sleep(delayMs), closed])
  child.kill('SIGKILL')
  await closed
  // A line that was cut by the kill is no report.
  const lines = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(line => line !== '')
  return {
    heldAtOpen: Number(lines[0]?.split(' ')[1]),
    written: lines.filter(line => /^\d+$/.test(line)).map(Number),
    published: lines.includes('published'),
  }
}

/** The recorded bits, and which of them have wrong bytes on the disk. */
async function inspect(folder: string): Promise<{ held: Bitfield; bad: number[] } | undefined> {
  const db = new DatabaseSync(join(folder, 'index.db'), { readOnly: true })
  const row = db.prepare('SELECT part, held FROM partial').get()
  db.close()
  if (row === undefined) return undefined
  const held = new Bitfield(file.table.count, row['held'] as Uint8Array<ArrayBuffer>)
  const bytes = await readFile(String(row['part']))
  const bad = [...file.blocks.keys()].filter(index => {
    const { offset, length, digest } = file.table.ref(index)
    const actual = sha256(bytes.subarray(offset, offset + length))
    return held.has(index) && Buffer.compare(actual, digest) !== 0
  })
  return { held, bad }
}

test(
  `survives ${rounds} kills: no bit without its bytes, at most ${lostMax} chunks fetched again`,
  { timeout: rounds * 10_000 },
  async () => {
    await using scratch = await openScratchFolder()
    const published: string[] = []
    let folder = scratch.file('0')
    let mostLost = 0
    for (let round = 0; round < rounds; round += 1) {
      const run = await crashAfter(folder, round, 1 + ((round * 37) % 60))
      const found = await inspect(folder)
      if (found === undefined) {
        published.push(join(folder, 'target', 'weights.bin'))
        folder = scratch.file(String(round + 1))
        continue
      }
      expect(found.bad).toEqual([])
      const lost = run.written.filter(index => !found.held.has(index)).length
      mostLost = Math.max(mostLost, lost)
      expect(found.held.count + lost).toBeGreaterThanOrEqual(run.heldAtOpen + run.written.length)
    }
    expect(mostLost).toBeLessThan(lostMax)

    // Whatever is left is finished by a run that nobody kills.
    const last = await crashAfter(folder, rounds, minute)
    expect(last.published).toBe(true)
    published.push(join(folder, 'target', 'weights.bin'))
    for (const place of published) expect((await readFile(place)).equals(file.bytes)).toBe(true)
    expect(published.length).toBeLessThanOrEqual(rounds)
  },
)

const weights = testFile('weights', [1000, 2000, 3000, 4000])

/** Makes the index think that the machine was started anew since. */
function reboot(folder: string, change: (durable: Bitfield) => void): void {
  const db = new DatabaseSync(join(folder, 'index.db'))
  const durable = new Bitfield(weights.table.count)
  change(durable)
  db.prepare("UPDATE partial SET boot = 'an earlier one', durable = ?").run(durable.bytes)
  db.close()
}

async function fetchPart(folder: string, chunks: readonly number[]): Promise<string> {
  await using store = await openTestStore(folder)
  const spec = partialSpec(join(folder, 'target'), 'weights.bin', weights)
  await using partial = await store.openPartial(spec)
  await writeChunks(partial, weights, chunks)
  const db = new DatabaseSync(join(folder, 'index.db'))
  const part = String(db.prepare('SELECT part FROM partial').get()?.['part'])
  db.close()
  return part
}

async function heldAfter(folder: string): Promise<number[]> {
  await using store = await openTestStore(folder)
  const spec = partialSpec(join(folder, 'target'), 'weights.bin', weights)
  await using partial = await store.openPartial(spec)
  return [...weights.blocks.keys()].filter(index => partial.held.has(index))
}

async function overwrite(path: string, offset: number, length: number): Promise<void> {
  await using handle = await open(path, 'r+')
  await handle.write(Buffer.alloc(length), 0, length, offset)
}

test('hashes after a reboot what no sync had covered, and believes the rest', async () => {
  await using scratch = await openScratchFolder()
  const part = await fetchPart(scratch.path, [0, 1, 3])
  // A power cut: chunk 1 was written and never reached the disk.
  await overwrite(part, weights.table.offset(1), weights.table.length(1))
  reboot(scratch.path, durable => void durable.add(0))
  expect(await heldAfter(scratch.path)).toEqual([0, 3])
})

test('hashes everything when the partial file is another one', async () => {
  await using scratch = await openScratchFolder()
  const part = await fetchPart(scratch.path, [0, 1, 3])
  await copyFile(part, `${part}.new`)
  await overwrite(`${part}.new`, 0, 10)
  await rename(`${part}.new`, part)
  expect(await heldAfter(scratch.path)).toEqual([1, 3])
})

test('starts anew when the partial file was cut, and when it is gone', async () => {
  await using scratch = await openScratchFolder()
  const part = await fetchPart(scratch.path, [0, 1, 3])
  await truncate(part, 5000)
  expect(await heldAfter(scratch.path)).toEqual([])
  await fetchPart(scratch.path, [2])
  await rm(part)
  expect(await heldAfter(scratch.path)).toEqual([])
  expect((await stat(part)).size).toBe(weights.table.size)
})

test('hashes a partial file that only an index knew which was lost', async () => {
  await using scratch = await openScratchFolder()
  await fetchPart(scratch.path, [0, 2])
  for (const suffix of ['', '-wal', '-shm'])
    await rm(scratch.file(`index.db${suffix}`), { force: true })
  expect(await heldAfter(scratch.path)).toEqual([0, 2])
})

test('finishes a file that was moved into place just before the crash', async () => {
  await using scratch = await openScratchFolder()
  const part = await fetchPart(scratch.path, [0, 1, 2, 3])
  const place = scratch.file('target/weights.bin')
  await link(part, place)
  await using store = await openTestStore(scratch.path)
  const spec = partialSpec(scratch.file('target'), 'weights.bin', weights)
  await using partial = await store.openPartial(spec)
  await partial.publish()
  expect((await readFile(place)).equals(weights.bytes)).toBe(true)
  expect((await stat(place)).nlink).toBe(1)
})
