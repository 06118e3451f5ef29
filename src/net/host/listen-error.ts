/** Why a host cannot listen, in words that say what to do. */

import { ConflictError, InvalidInputError, messageOf, StorageError } from '../../core/errors.ts'

export function listenError(error: unknown, listen: readonly string[]): Error {
  const message = messageOf(error)
  const where = listen.join(', ')
  if (message.includes('EADDRINUSE')) {
    return new ConflictError(`cannot listen on ${where}: the port is in use`, {
      cause: error,
      hint: 'stop the program that listens there, or choose another port with --listen',
    })
  }
  if (message.includes('EACCES')) {
    return new StorageError(`cannot listen on ${where}: permission denied`, {
      cause: error,
      hint: 'ports below 1024 need privileges: choose a higher one with --listen',
    })
  }
  if (/EADDRNOTAVAIL|EINVAL|did not match|Unsupported|not supported/iu.test(message)) {
    return new InvalidInputError(`cannot listen on ${where}`, {
      cause: error,
      hint: 'use an address of this machine, such as /ip4/0.0.0.0/tcp/4011 or /ip4/0.0.0.0/tcp/4012/ws',
    })
  }
  return error instanceof Error ? error : new Error(message)
}
