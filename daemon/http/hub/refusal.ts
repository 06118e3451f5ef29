/** Errors as the Hub's clients understand them: docs/spec/hub-gateway.md section 5. */

import { CommonweightError, messageOf } from '../../../src/core/errors.ts'
import { errorBody, statusOf } from '../../error-body.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

/** Clients tell what is missing by this header alone. */
export type HubCode = 'EntryNotFound' | 'RepoNotFound' | 'RevisionNotFound'

export function notFound(code: HubCode, message: string, commit?: string): Answer {
  const headers = {
    'x-error-code': code,
    'x-error-message': headerText(message),
    // With it, and only with it, a client remembers that the file is not there.
    ...(commit === undefined ? {} : { 'x-repo-commit': commit }),
  }
  return { status: 404, headers, body: { error: message } }
}

export function refused(status: number, message: string): Answer {
  return { status, headers: { 'x-error-message': headerText(message) }, body: { error: message } }
}

/** When a client that was told to come back should. */
const retryAfterSeconds = 10

/**
 * Known, but nobody serves it now. huggingface_hub from 1.0 on asks again after 429 and fails at once
 * on 503; those before do the opposite.
 */
export function busy(message: string, userAgent: string): Answer {
  const status = /\bhf_hub\/0\./u.test(userAgent) || !userAgent.includes('hf_hub/') ? 503 : 429
  const answer = refused(status, message)
  return { ...answer, headers: { ...answer.headers, 'retry-after': String(retryAfterSeconds) } }
}

/** Of one address. What only knows 503 is told that. */
export function tooMany(waitSeconds: number, userAgent: string): Answer {
  const status = /\bhf_hub\/0\./u.test(userAgent) ? 503 : 429
  const answer = refused(status, 'too many requests from this address')
  return { ...answer, headers: { ...answer.headers, 'retry-after': String(waitSeconds) } }
}

export function answerOfError(error: unknown, userAgent: string): Answer {
  const body = errorBody(error)
  const text = body.hint === undefined ? body.message : `${body.message} (${body.hint})`
  if (!(error instanceof CommonweightError)) {
    // A bug's message may say anything; its stack is in the log.
    return refused(statusOf(body), 'the gateway failed')
  }
  if (error.code === 'UNAVAILABLE') return busy(messageOf(error), userAgent)
  return refused(statusOf(body), text)
}

/** A header is printable ASCII, and names may be anything. */
function headerText(text: string): string {
  return text.replaceAll(/[^\u0020-\u007E]/gu, '?').slice(0, 500)
}
