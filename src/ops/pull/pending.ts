/** Pulls and mirrors that outlive the process: remembered when they start, forgotten when they are over. */

import { createHash } from 'node:crypto'
import {
  type MirrorRequest,
  mirrorRequestSchema,
  pullRequestSchema,
  type PullRequest,
} from '../../api/contract.ts'
import { isAbort, UnavailableError } from '../../core/errors.ts'
import type { Store } from '../../store/store.ts'

/** What goes on after a restart. */
export type LastingRequest = PullRequest | MirrorRequest

const lastingSchema = pullRequestSchema.or(mirrorRequestSchema)

export type PendingStore = Pick<Store, 'deletePending' | 'pending' | 'putPending'>

/**
 * Runs a pull under a note in the durable state. The note stays when the node is closing and when nobody
 * serves what is missing, so that the next start goes on; a pull that succeeded, failed otherwise or was
 * cancelled by its user is over.
 */
export async function rememberPull<T>(
  store: PendingStore,
  request: LastingRequest,
  pull: () => Promise<T>,
  isClosing: () => boolean,
): Promise<T> {
  const text = JSON.stringify(withoutToken(request))
  const id = createHash('sha256').update(text).digest('hex').slice(0, 32)
  store.putPending({ id, request: text })
  try {
    const result = await pull()
    store.deletePending(id)
    return result
  } catch (error) {
    const goesOn = isAbort(error) ? isClosing() : error instanceof UnavailableError
    if (!goesOn) store.deletePending(id)
    throw error
  }
}

/** A token is nobody's to keep: a mirror that needs it is asked for again by its user. */
function withoutToken(request: LastingRequest): LastingRequest {
  if (request.kind === 'pull') return request
  const { token: _, ...rest } = request
  return rest
}

/** Those left over from the last run; one that a newer version wrote and we cannot read is dropped. */
export function pendingPulls(store: PendingStore): LastingRequest[] {
  return store.pending().flatMap(({ id, request }) => {
    const parsed = lastingSchema.safeParse(parseJson(request))
    if (parsed.success) return [parsed.data]
    store.deletePending(id)
    return []
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The user does not want this model any more: no start fetches it again. */
export function forgetPulls(
  store: PendingStore,
  isMeant: (request: LastingRequest) => boolean,
): void {
  for (const { id, request } of store.pending()) {
    const parsed = lastingSchema.safeParse(parseJson(request))
    if (parsed.success && isMeant(parsed.data)) store.deletePending(id)
  }
}
