/** An error's way between threads: classes do not survive the structured clone. */

import {
  CommonweightError,
  ConflictError,
  type ErrorCode,
  type ErrorDetails,
  IntegrityError,
  InvalidInputError,
  LimitError,
  messageOf,
  NotFoundError,
  ProtocolError,
  StorageError,
  systemCode,
  UnavailableError,
} from './errors.ts'

export interface SentError {
  /** Undefined for a bug: then `message` is its stack. */
  readonly code: ErrorCode | undefined
  readonly message: string
  readonly hint: string | undefined
  readonly cause: { readonly message: string; readonly code: string | undefined } | undefined
}

export function sendError(error: unknown): SentError {
  if (!(error instanceof CommonweightError)) {
    const message = Error.isError(error) ? (error.stack ?? error.message) : String(error)
    return { code: undefined, message, hint: undefined, cause: undefined }
  }
  const { code, message, hint, cause } = error
  const sentCause =
    cause === undefined ? undefined : { message: messageOf(cause), code: systemCode(cause) }
  return { code, message, hint, cause: sentCause }
}

const classes: Partial<
  Record<ErrorCode, new (message: string, details: ErrorDetails) => CommonweightError>
> = {
  CONFLICT: ConflictError,
  INTEGRITY: IntegrityError,
  INVALID_INPUT: InvalidInputError,
  LIMIT: LimitError,
  NOT_FOUND: NotFoundError,
  PROTOCOL: ProtocolError,
  STORAGE: StorageError,
  UNAVAILABLE: UnavailableError,
}

/** `thread` names the other thread in the message of a bug. */
export function receiveError({ code, message, hint, cause }: SentError, thread: string): Error {
  const ErrorClass = code === undefined ? undefined : classes[code]
  if (ErrorClass === undefined) return new Error(`${thread} failed: ${message}`)
  return new ErrorClass(message, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined
      ? {}
      : { cause: Object.assign(new Error(cause.message), { code: cause.code }) }),
  })
}
