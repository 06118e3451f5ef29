/**
 * The bytes that all downloads of a node together may have asked for and not yet written, whatever way they come:
 * split evenly among those that have any, so that a slow one takes no more from the others than its part. Pure.
 */

import { MiB } from '../core/units.ts'

/** What two downloads alone would take; a third one makes the parts of all smaller. */
const bytesInFlightTotal = 128 * MiB
/** With less, a download would wait for each answer before the next request. */
const bytesEachMin = 4 * MiB

/** One download's part. Disposing gives back all of it. */
export interface FlightShare extends Disposable {
  /** Where no more is asked for now. */
  readonly bytesMax: number
  /** So many bytes are in flight from now on. */
  tell(bytes: number): void
}

export class FlightBudget {
  readonly #total: number
  /** Downloads with anything in flight. */
  readonly #active = new Set<FlightShare>()

  constructor(total = bytesInFlightTotal) {
    this.#total = total
  }

  share(): FlightShare {
    const active = this.#active
    const bytesMax = (): number => {
      const others = active.has(share) ? active.size - 1 : active.size
      return Math.max(bytesEachMin, this.#total / (others + 1))
    }
    const share: FlightShare = {
      get bytesMax() {
        return bytesMax()
      },
      tell(bytes) {
        if (bytes > 0) active.add(share)
        else active.delete(share)
      },
      [Symbol.dispose]: () => void active.delete(share),
    }
    return share
  }
}
