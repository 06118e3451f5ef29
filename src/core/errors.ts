/**
 * The whole error taxonomy. A class exists only if some caller acts on it; `code` travels over the
 * control API and decides the HTTP status and the exit code. AbortError and TimeoutError are the
 * platform's own and are never wrapped; anything else that escapes is a bug.
 */

/** What a caller does about each code: docs/conventions.md section 5 is this table in prose. */
export const errorTable = {
  INVALID_INPUT: { http: 400, exit: 2 },
  NOT_FOUND: { http: 404, exit: 4 },
  UNAVAILABLE: { http: 503, exit: 5 },
  INTEGRITY: { http: 502, exit: 6 },
  STORAGE: { http: 507, exit: 7 },
  UNTRUSTED: { http: 403, exit: 8 },
  CONFLICT: { http: 409, exit: 9 },
  LIMIT: { http: 413, exit: 10 },
  PROTOCOL: { http: 502, exit: 11 },
} as const

export type ErrorCode = keyof typeof errorTable

export const exitCodes = {
  ok: 0,
  bug: 1,
  partial: 3,
  interrupted: 130,
} as const

export interface ErrorDetails extends ErrorOptions {
  /** What the user can do next: one line, lower case, no full stop. */
  readonly hint?: string
}

/** Base of every error we throw on purpose. */
export class CommonweightError extends Error {
  override readonly name: string = 'CommonweightError'
  readonly code: ErrorCode
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    this.hint = details.hint
  }
}

/** The caller's argument, config or file is wrong; the message says which and what is allowed. */
export class InvalidInputError extends CommonweightError {
  override readonly name = 'InvalidInputError'
  constructor(message: string, details?: ErrorDetails) {
    super('INVALID_INPUT', message, details)
  }
}

/** No such model, CID or file, here or on the network. */
export class NotFoundError extends CommonweightError {
  override readonly name = 'NotFoundError'
  constructor(message: string, details?: ErrorDetails) {
    super('NOT_FOUND', message, details)
  }
}

/** Known, but nobody reachable serves it now: retry with backoff. */
export class UnavailableError extends CommonweightError {
  override readonly name = 'UnavailableError'
  constructor(message: string, details?: ErrorDetails) {
    super('UNAVAILABLE', message, details)
  }
}

/** Bytes do not match the name they came under: drop the source, or quarantine if local. */
export class IntegrityError extends CommonweightError {
  override readonly name = 'IntegrityError'
  constructor(message: string, details?: ErrorDetails) {
    super('INTEGRITY', message, details)
  }
}

/** Disk full, permission or I/O; the message names the path. */
export class StorageError extends CommonweightError {
  override readonly name = 'StorageError'
  constructor(message: string, details?: ErrorDetails) {
    super('STORAGE', message, details)
  }
}

/** Lock held, already running, or name taken. */
export class ConflictError extends CommonweightError {
  override readonly name = 'ConflictError'
  constructor(message: string, details?: ErrorDetails) {
    super('CONFLICT', message, details)
  }
}

/** A bound of docs/spec/limits.md was exceeded. */
export class LimitError extends CommonweightError {
  override readonly name = 'LimitError'
  constructor(message: string, details?: ErrorDetails) {
    super('LIMIT', message, details)
  }
}

/** A peer broke the wire rules: reset its stream and score it down. */
export class ProtocolError extends CommonweightError {
  override readonly name = 'ProtocolError'
  constructor(message: string, details?: ErrorDetails) {
    super('PROTOCOL', message, details)
  }
}

/** The error classes by code, for rebuilding one that travelled over the control API. */
export function errorFromCode(
  code: ErrorCode,
  message: string,
  details?: ErrorDetails,
): CommonweightError {
  return new CommonweightError(code, message, details)
}

/** True for the platform's abort and time-out errors, which pass through every layer unwrapped. */
export function isAbort(error: unknown): boolean {
  return Error.isError(error) && (error.name === 'AbortError' || error.name === 'TimeoutError')
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return Error.isError(error) ? error.message : String(error)
}

/** Node's `code` (ENOENT, EACCES …) of a system error, or undefined. */
export function systemCode(error: unknown): string | undefined {
  if (!Error.isError(error)) return undefined
  const { code } = error as NodeJS.ErrnoException
  return typeof code === 'string' ? code : undefined
}

/** Exit code for an error that ends a command. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommonweightError) return errorTable[error.code].exit
  return isAbort(error) ? exitCodes.interrupted : exitCodes.bug
}
