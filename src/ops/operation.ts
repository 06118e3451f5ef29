/** What every long operation takes: how to stop it, and whom to tell how it goes. */

import type { NoticeEvent, ProgressEvent } from '../api/contract.ts'

export interface OperationOptions {
  readonly signal: AbortSignal
  /** Called a few times a second at most. */
  readonly onEvent: (event: ProgressEvent | NoticeEvent) => void
}
