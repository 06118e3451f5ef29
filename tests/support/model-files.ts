/** Models for tests that need real files: bytes that are random and the same in every run. */

import { createCipheriv, createHash } from 'node:crypto'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { u64 } from './weight-files.ts'

/** `length` bytes that depend on nothing but the name; nothing can compress or deduplicate them. */
export function seededBytes(name: string, length: number): Buffer {
  const key = createHash('sha256').update(name).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

/** Writes files by their path below the folder, which is made. Returns the folder. */
export async function writeFiles(
  folder: string,
  files: Readonly<Record<string, Uint8Array | string>>,
): Promise<string> {
  await mkdir(folder, { recursive: true })
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), bytes)
  }
  return folder
}

/** A safetensors file of these tensors, each a run of bytes, in this order. */
export function tensorFile(
  tensors: Readonly<Record<string, Uint8Array>>,
  metadata?: Readonly<Record<string, string>>,
): Buffer {
  const header: Record<string, object> = metadata === undefined ? {} : { __metadata__: metadata }
  let end = 0
  for (const [name, { length }] of Object.entries(tensors)) {
    header[name] = { dtype: 'U8', shape: [length], data_offsets: [end, end + length] }
    end += length
  }
  const json = Buffer.from(JSON.stringify(header))
  return Buffer.concat([u64(json.length), json, ...Object.values(tensors)])
}

/** Paths of all files below the folder, sorted; nothing when there is no folder. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .toSorted()
}
