/** How far an adoption is: of all that has to be hashed, over all models. */

import type { ProgressEvent } from '../../api/contract.ts'
import type { FoundEntry, FoundModel } from '../../caches/found.ts'
import type { Clock } from '../../core/clock.ts'
import type { ImportProgress } from '../../ingest/import-files.ts'
import { type Meter, openMeter } from '../meter.ts'

export class AdoptProgress {
  readonly #meter: Meter
  readonly #filesTotal: number
  /** Less what turns out to be known: that takes no time, and would be no rate. */
  #bytesTotal: number
  #filesDone = 0
  #bytesDone = 0
  /** Of the model being hashed. */
  #bytesOfModel = 0
  #knownOfModel = 0

  constructor(
    clock: Clock,
    onEvent: (event: ProgressEvent) => void,
    entries: readonly FoundEntry[],
  ) {
    const models = entries.filter(entry => entry.kind === 'model')
    this.#meter = openMeter(clock, onEvent)
    this.#filesTotal = models.reduce((sum, { files }) => sum + files.length, 0)
    this.#bytesTotal = models.reduce((sum, model) => sum + bytesOf(model), 0)
  }

  /** Of a model, these bytes need not be read. */
  knew(bytes: number): void {
    this.#knownOfModel = bytes
    this.#bytesTotal -= bytes
  }

  report({ filesDone, bytesDone, file }: ImportProgress): void {
    this.#bytesOfModel = Math.max(bytesDone - this.#knownOfModel, 0)
    this.#meter.report({
      phase: 'hashing',
      peers: 0,
      filesDone: this.#filesDone + filesDone,
      filesTotal: this.#filesTotal,
      bytesDone: this.#bytesDone + this.#bytesOfModel,
      bytesTotal: this.#bytesTotal,
      ...(file === undefined ? {} : { file }),
    })
  }

  /** Whether it was adopted or not: nothing of it is left to do. */
  finished(model: FoundModel): void {
    const skipped = bytesOf(model) - this.#knownOfModel - this.#bytesOfModel
    this.#bytesTotal -= skipped
    this.#bytesDone += this.#bytesOfModel
    this.#filesDone += model.files.length
    this.#bytesOfModel = 0
    this.#knownOfModel = 0
  }
}

function bytesOf({ files }: FoundModel): number {
  return files.reduce((sum, { size }) => sum + size, 0)
}
