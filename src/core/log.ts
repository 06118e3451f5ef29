/** Logging as a dependency: what happened, with fields. The daemon gives pino; a library user what they like. */

export type LogFields = Readonly<Record<string, unknown>>

/** Debug: per chunk. Info: per model. Warn: we recovered. Error: a person must act. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

function discard(): void {
  // A silent logger drops everything on purpose.
}

export const silentLog: Logger = { debug: discard, info: discard, warn: discard, error: discard }
