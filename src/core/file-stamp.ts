/** How a file is recognised as unchanged without reading it. */

export interface FileStamp {
  readonly size: number
  /** Nanoseconds since the epoch. */
  readonly mtimeNs: bigint
  readonly ino: bigint
}

/** The stamp in what `stat(path, { bigint: true })` returned. */
export function stampOf(stats: { size: bigint; mtimeNs: bigint; ino: bigint }): FileStamp {
  return { size: Number(stats.size), mtimeNs: stats.mtimeNs, ino: stats.ino }
}

export function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ino === b.ino
}
