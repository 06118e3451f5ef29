/** How the control API says what went wrong. A part of contract.ts. */

import { z } from 'zod'

/** Codes beside those of core/errors.ts: somebody cancelled; a bug, whose stack is in the daemon's log. */
export const abortedCode = 'ABORTED'
export const bugCode = 'INTERNAL'

export const errorBodySchema = z.strictObject({
  type: z.literal('error'),
  /** A code of core/errors.ts, or one of the two above. */
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
})
export type ErrorBody = z.infer<typeof errorBodySchema>
