/**
 * Files outside Git LFS are named by git's SHA-1, which their manifest claims and no chunk proves. Clients
 * keep a file by that name and never look again, so it is computed before the first byte leaves.
 */

import { raceSignal } from '../../../src/core/async.ts'
import { IntegrityError, isAbort, UnavailableError } from '../../../src/core/errors.ts'
import { gitBlobOid } from '../../../src/core/git.ts'
import { second } from '../../../src/core/units.ts'
import { type Gateway, type NamedModel, readBytesMax } from '../../../src/node.ts'
import type { GitFile } from '../../../src/manifest/git-commit.ts'

/** Names that were found right: 100 bytes of memory each. */
const provenMax = 10_000
/** Clients of a hub give up after ten seconds; such files are small. */
const proofMs = 8 * second

export class PlainFiles {
  readonly #gateway: Pick<Gateway, 'open'>
  readonly #proven = new Set<string>()

  constructor(gateway: Pick<Gateway, 'open'>) {
    this.#gateway = gateway
  }

  /** IntegrityError when git would call it something else; UnavailableError when it cannot be had. */
  async prove(model: NamedModel, file: GitFile, gone: AbortSignal): Promise<void> {
    const key = `${file.sha256} ${file.oid}`
    if (file.isLfs || this.#proven.has(key)) return
    const signal = AbortSignal.any([gone, AbortSignal.timeout(proofMs)])
    const found = await raceSignal(this.#oidOf(model, file, signal), signal).catch(
      (error: unknown) => {
        if (gone.aborted || !isAbort(error)) throw error
        throw new UnavailableError(`nobody has served ${file.path} yet`)
      },
    )
    if (found !== file.oid) {
      throw new IntegrityError(`${file.path} is not what its manifest says that git calls it`, {
        hint: 'whoever made this manifest did not check it: take another one of the same commit',
      })
    }
    this.#proven.add(key)
    const [oldest] = this.#proven
    if (this.#proven.size > provenMax && oldest !== undefined) this.#proven.delete(oldest)
  }

  async #oidOf(model: NamedModel, file: GitFile, signal: AbortSignal): Promise<string> {
    using opened = this.#gateway.open(model, file.file)
    const { size } = file
    async function* pieces(): AsyncGenerator<Uint8Array> {
      const into = Buffer.allocUnsafeSlow(Math.min(readBytesMax, size))
      for (let offset = 0; offset < size;) {
        const bytes = await opened.read({ offset, end: size }, into, signal)
        offset += bytes.length
        yield bytes
      }
    }
    return await gitBlobOid(size, pieces())
  }
}
