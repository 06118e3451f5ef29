/** Silent damage: bytes change on the disk and nothing else shows it. */

import { execFileSync } from 'node:child_process'
import { open, stat } from 'node:fs/promises'

/** Turns one bit and puts the time back to the nanosecond, which Node's own utimes cannot. */
export async function flipByteKeepingStamp(place: string, at: number): Promise<void> {
  const { mtimeNs } = await stat(place, { bigint: true })
  {
    await using file = await open(place, 'r+')
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
    buffer[0] = (buffer[0] ?? 0) ^ 1
    await file.write(buffer, 0, 1, at)
  }
  const seconds = mtimeNs / 1_000_000_000n
  const rest = String(mtimeNs % 1_000_000_000n).padStart(9, '0')
  execFileSync('touch', ['-m', '-d', `@${seconds}.${rest}`, place])
  const after = await stat(place, { bigint: true })
  if (after.mtimeNs !== mtimeNs) throw new Error(`could not put back the time of ${place}`)
}
