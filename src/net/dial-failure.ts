/**
 * Why a peer was not reached, in words for whoever gave its address. libp2p tells it in errors of several
 * layers, one for each address, some of which have lost all but their message on the way.
 */

import { messageOf, UnavailableError } from '../core/errors.ts'

/** Of more addresses, the first ones say enough. */
const reasonsMax = 3

const wordsByCode: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was cut',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no route to it',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'its host name was not resolved',
  ETIMEDOUT: 'timed out',
}

export function dialFailure(error: unknown): string {
  const reasons = [...new Set(leavesOf(error).map(inWords))]
  return reasons.slice(0, reasonsMax).join(', and ')
}

/** One for each address that was dialled. */
function leavesOf(error: unknown): unknown[] {
  if (error instanceof AggregateError) return error.errors.flatMap(leavesOf)
  if (error instanceof UnavailableError && error.cause !== undefined) return leavesOf(error.cause)
  return [error]
}

function inWords(error: unknown): string {
  const message = messageOf(error)
  const [, there] = /identity key (\w+) does not match expected/u.exec(message) ?? []
  if (there !== undefined) return `another peer answers there (${there})`
  const { name, code } = error as { readonly name?: string; readonly code?: string }
  const words = code === undefined ? undefined : wordsByCode[code]
  if (words !== undefined) {
    const [, place] = /connection error (\S+:\d+):/u.exec(message) ?? []
    return place === undefined ? words : `${words} (${place})`
  }
  if (name === 'TimeoutError' || /due to timeout|timed out/u.test(message)) return 'timed out'
  if (name === 'NoValidAddressesError') return 'no transport here for its address'
  if (name === 'EncryptionFailedError') return `what answers there is no such node (${message})`
  return message
}
