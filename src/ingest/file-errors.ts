/** What can be wrong with a file on disk, in the words a person needs. */

import { ConflictError, messageOf, StorageError, systemCode } from '../core/errors.ts'

/** A path as it can be shown on one line: control characters escaped. */
export function shown(path: string): string {
  const quoted = JSON.stringify(path)
  return quoted.slice(1, -1) === path ? path : quoted
}

export function changedError(place: string): ConflictError {
  return new ConflictError(`${shown(place)} changed while it was being read`, {
    hint: 'wait until nothing writes to it, then try again',
  })
}

const hints: Readonly<Record<string, string>> = {
  ENOENT: 'it was moved or deleted meanwhile: try again',
  EACCES: 'give this user the right to read it',
  EPERM: 'give this user the right to read it',
  ELOOP: 'symbolic links lead in a circle: remove one',
  EMFILE: 'too many files are open: raise the limit with ulimit -n',
  EIO: 'the disk could not read it: check the disk',
}

/** A failed system call on a place. */
export function readError(place: string, error: unknown): StorageError {
  const hint = hints[systemCode(error) ?? '']
  const details = hint === undefined ? { cause: error } : { cause: error, hint }
  return new StorageError(`reading ${shown(place)}: ${messageOf(error)}`, details)
}

/** What the system said of something at a place, as an error of ours; any other error as it is. */
export function asReadError(place: string, error: unknown): unknown {
  const code = systemCode(error)
  // Those of Node itself are about how it was called.
  return code === undefined || code.startsWith('ERR_') ? error : readError(place, error)
}

/** The kinds of thing that a path can lead to, as both Stats and Dirent tell them. */
interface FileKind {
  isDirectory(): boolean
  isFIFO(): boolean
  isSocket(): boolean
}

/** What something that is no regular file is called. */
export function kindOf(entry: FileKind): string {
  if (entry.isDirectory()) return 'a folder'
  if (entry.isFIFO()) return 'a named pipe'
  return entry.isSocket() ? 'a socket' : 'a device'
}
