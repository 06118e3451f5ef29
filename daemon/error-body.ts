/** An error as the control API sends it: its code, what happened, and what to do. */

import { abortedCode, bugCode } from '../src/api/contract.ts'
import type { ErrorBody } from '../src/api/contract.ts'
import { CommonweightError, errorTable, isAbort, messageOf } from '../src/core/errors.ts'

export function errorBody(error: unknown): ErrorBody {
  const body: ErrorBody = { type: 'error', code: codeOf(error), message: messageOf(error) }
  if (error instanceof CommonweightError && error.hint !== undefined) body.hint = error.hint
  return body
}

/** The HTTP status for a body. 499: the asker is gone or cancelled, as nginx counts it. */
export function statusOf(body: ErrorBody): number {
  if (body.code === abortedCode) return 499
  return Object.hasOwn(errorTable, body.code)
    ? errorTable[body.code as keyof typeof errorTable].http
    : 500
}

function codeOf(error: unknown): string {
  if (error instanceof CommonweightError) return error.code
  return isAbort(error) ? abortedCode : bugCode
}
