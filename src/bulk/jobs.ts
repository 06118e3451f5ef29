/**
 * What the main thread and the threads of the data plane say to each other: small messages, several
 * in one post. Lanes and jobs have numbers that the main thread gave them and never gives twice.
 */

import type { SentError } from '../core/sent-error.ts'
import type { LaneAddress } from './lane.ts'

export type ToThread =
  | {
      readonly kind: 'open'
      readonly lane: number
      readonly peer: string
      readonly addresses: readonly LaneAddress[]
    }
  /** Also while it is being opened. Jobs whose bytes are checked are still written. */
  | { readonly kind: 'close'; readonly lane: number; readonly reason: SentError }
  | {
      readonly kind: 'fetch'
      readonly lane: number
      readonly job: number
      /** The payload of the get-chunk frame. */
      readonly ask: Uint8Array
      readonly length: number
      readonly digest: Uint8Array
      readonly fd: number
      readonly offset: number
    }
  /** Does nothing once the chunk's bytes are checked. */
  | { readonly kind: 'cancel'; readonly job: number }
  /** Close all lanes, finish the writes, end. */
  | { readonly kind: 'stop' }

export type FromThread =
  | { readonly kind: 'opened'; readonly lane: number; readonly requestsMax: number }
  /** Or it could not be opened. */
  | { readonly kind: 'closed'; readonly lane: number; readonly reason: SentError }
  /** All bytes of the chunk are here, and they are the right ones. */
  | { readonly kind: 'checked'; readonly job: number; readonly bytesReceived: number }
  /** The last word on a job: nothing will be written for it after this. */
  | { readonly kind: 'done'; readonly job: number; readonly error: SentError | undefined }
