/** What reads a file that is here, on its way from peers, or on its way from a hub. */

import type { Span } from '../../store/store.ts'

/** A file while somebody reads it. */
export interface OpenedFile extends Disposable {
  /** Every byte of it is here. */
  readonly isWhole: boolean
  /**
   * The bytes from `offset` on, at least one and none from `end` on, verified, in the memory of `into`:
   * as many as are here. What is not here is fetched and waited for; UnavailableError when nobody serves it.
   */
  read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
}
