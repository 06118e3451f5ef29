/** A file without tensors has the CID that IPFS gives it: `ipfs add` with the profile unixfs-v1-2025. */

import { execFile } from 'node:child_process'
import { truncate, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { GiB, MiB } from '../../src/core/units.ts'
import { openHashPool } from '../../src/ingest/hash-file.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'

const run = promisify(execFile)
const kubo = process.env['KUBO'] ?? 'ipfs'

async function kuboMissing(): Promise<string | undefined> {
  return run(kubo, ['version']).then(
    () => undefined,
    () => 'no kubo: put `ipfs` on the PATH or its path into KUBO',
  )
}

test.for([0, 1, MiB, MiB + 1, 1025 * MiB, 2 * GiB, 4 * GiB])(
  'a sparse file of %i bytes has the root that kubo gives',
  { timeout: 120_000 },
  async (size, context) => {
    const missing = await kuboMissing()
    if (missing !== undefined) return context.skip(missing)
    await using scratch = await openScratchFolder()
    const path = scratch.file('file')
    await writeFile(path, '')
    await truncate(path, size)
    const env = { ...process.env, IPFS_PATH: scratch.file('repo') }
    await run(kubo, ['init', '--profile', 'unixfs-v1-2025'], { env })
    const { stdout } = await run(kubo, ['add', '--only-hash', '--quieter', path], { env })
    await using pool = openHashPool()
    const { root } = await pool.hashFile(path)
    expect(root.toString()).toBe(stdout.trim())
  },
)
