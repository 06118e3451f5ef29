/** A small file system in memory, to fill up or make read-only. Mounting needs root on Linux. */

import { execFileSync } from 'node:child_process'
import { MiB } from '../../src/core/units.ts'
import { openScratchFolder } from './scratch-folder.ts'

export interface MemoryDisk extends AsyncDisposable {
  readonly path: string
  file(name: string): string
  makeReadOnly(): void
  makeWritable(): void
}

export async function mountDisk(mib = 8): Promise<MemoryDisk> {
  const scratch = await openScratchFolder()
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib * MiB}`, 'tmpfs', scratch.path])
  const remount = (how: string): void => {
    execFileSync('mount', ['-o', `remount,${how}`, scratch.path])
  }
  return {
    path: scratch.path,
    file: name => scratch.file(name),
    makeReadOnly: () => remount('ro'),
    makeWritable: () => remount('rw'),
    async [Symbol.asyncDispose]() {
      execFileSync('umount', ['-l', scratch.path])
      await scratch[Symbol.asyncDispose]()
    },
  }
}

/** Why tests that mount are skipped here; undefined when they can run. */
export async function whyNoMount(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return 'mounting needs root on Linux'
  try {
    await using _disk = await mountDisk()
    return undefined
  } catch (error) {
    return `mounting a tmpfs fails here: ${String(error)}`
  }
}
