/**
 * What every Source must do, whatever it is made of. An implementation runs it with a world in which
 * a holder serves `sample`:
 *
 *   describeSource('a peer over loopback', openPeerWorld)
 */

import { describe, expect, test } from 'vitest'
import { Bitfield } from '../../src/core/bitfield.ts'
import { type CID, rawCid } from '../../src/core/cid.ts'
import { sha256 } from '../../src/core/digest.ts'
import { UnavailableError } from '../../src/core/errors.ts'
import { verifyBlock, verifyDigest, verifyTable } from '../../src/dag/verify.ts'
import type { HaveUpdate, Source } from '../../src/transfer/source.ts'
import { type TestFile, testFile } from '../support/store-fixture.ts'

export interface SourceSample {
  readonly manifest: { readonly cid: CID; readonly bytes: Uint8Array }
  /** Held whole. */
  readonly whole: TestFile
  /** Only `held` of its chunks are. */
  readonly partial: TestFile
  readonly held: Bitfield
}

export interface SourceWorld extends AsyncDisposable {
  readonly source: Source
  /** The holder gets this chunk of the partial file. */
  gain(index: number): void
  /** The holder is gone: its process ended, its connection broke. */
  leave(): Promise<void>
}

export type OpenSourceWorld = (sample: SourceSample) => Promise<SourceWorld>

/** The same for every implementation; 1 MiB chunks, so that answers need more than one frame. */
export function sourceSample(): SourceSample {
  const whole = testFile('contract/whole', [1000, 2 ** 20, 2 ** 20, 77])
  const partial = testFile('contract/partial', [4096, 4096, 4096, 4096])
  const held = new Bitfield(4)
  held.add(1)
  held.add(3)
  const bytes = Buffer.from('bytes that stand for a manifest')
  return { manifest: { cid: rawCid(sha256(bytes)), bytes }, whole, partial, held }
}

export function describeSource(name: string, open: OpenSourceWorld): void {
  const sample = sourceSample()
  const { whole, partial, manifest } = sample
  const options = { signal: new AbortController().signal }
  const nobody = testFile('contract/nobody has it', [10, 20])
  const chunkOf = (file: TestFile, index: number): Parameters<Source['fetchChunk']>[0] => {
    const { offset, length } = file.table.ref(index)
    return { root: file.root, index, offset, length }
  }

  describe(`${name} is a Source`, () => {
    test('gives a manifest', async () => {
      await using world = await open(sample)
      const bytes = await world.source.fetchManifest(manifest.cid, options)
      expect(verifyBlock(manifest.cid, bytes).bytes.length).toBe(manifest.bytes.length)
    })

    test('gives a chunk table by root, with and without the size', async () => {
      await using world = await open(sample)
      for (const size of [whole.table.size, undefined]) {
        const bytes = await world.source.fetchTable(whole.root, size, options)
        expect(verifyTable(whole.root, whole.table.size, bytes).count).toBe(4)
      }
    })

    test('gives a chunk table by the SHA-256 of the whole file', async () => {
      await using world = await open(sample)
      const bytes = await world.source.fetchTable(rawCid(whole.sha256), undefined, options)
      expect(verifyTable(whole.root, whole.table.size, bytes).count).toBe(4)
    })

    test('gives chunks, many at once and in any order', async () => {
      await using world = await open(sample)
      const asked = [3, 0, 2, 1, 2, 0]
      const chunks = await Promise.all(
        asked.map(index => world.source.fetchChunk(chunkOf(whole, index), options)),
      )
      for (const [at, index] of asked.entries()) {
        const { bytes } = verifyDigest(whole.table.digest(index), chunks[at] as Uint8Array)
        expect(bytes.length).toBe(whole.table.length(index))
      }
    })

    test('says that it cannot give what it does not have', async () => {
      await using world = await open(sample)
      const { source } = world
      const unknown = rawCid(nobody.sha256)
      await expect(source.fetchManifest(unknown, options)).rejects.toThrow(UnavailableError)
      await expect(source.fetchTable(nobody.root, 30, options)).rejects.toThrow(UnavailableError)
      await expect(source.fetchChunk(chunkOf(nobody, 1), options)).rejects.toThrow(UnavailableError)
      await expect(source.fetchChunk(chunkOf(partial, 0), options)).rejects.toThrow(
        UnavailableError,
      )
      // And goes on serving.
      await source.fetchChunk(chunkOf(partial, 1), options)
    })

    test('tells what it holds, and what it gains', async () => {
      await using world = await open(sample)
      const watch = watchOf(world.source, [whole, partial, nobody])
      await watch.until(() => watch.held(whole).isFull && watch.held(partial).count === 2)
      expect([...watch.held(partial).runs()]).toEqual([...sample.held.runs()])
      world.gain(0)
      await watch.until(() => watch.held(partial).has(0))
      expect(watch.held(nobody).count).toBe(0)
      watch.stop.abort()
    })

    test('tells nothing after the watch was ended', async () => {
      await using world = await open(sample)
      const watch = watchOf(world.source, [whole, partial])
      await watch.until(() => watch.held(partial).count === 2)
      watch.stop.abort()
      world.gain(0)
      // A later question is answered after what was told before.
      await world.source.fetchChunk(chunkOf(partial, 1), options)
      expect(watch.held(partial).has(0)).toBe(false)
    })

    test('rejects with the reason when a request is aborted, and goes on serving', async () => {
      await using world = await open(sample)
      const reason = new Error('not needed any more')
      const abort = new AbortController()
      const request = world.source.fetchChunk(chunkOf(whole, 1), { signal: abort.signal })
      abort.abort(reason)
      await expect(request).rejects.toBe(reason)
      await expect(
        world.source.fetchChunk(chunkOf(whole, 1), { signal: AbortSignal.abort(reason) }),
      ).rejects.toBe(reason)
      const bytes = await world.source.fetchChunk(chunkOf(whole, 1), options)
      verifyDigest(whole.table.digest(1), bytes)
    })

    test('is closed, and cannot answer, once its holder is gone', async () => {
      await using world = await open(sample)
      const { source } = world
      expect(source.closed.aborted).toBe(false)
      const closed = new Promise(resolve => source.closed.addEventListener('abort', resolve))
      await world.leave()
      await closed
      expect(source.closed.reason).toBeInstanceOf(Error)
      await expect(source.fetchChunk(chunkOf(whole, 1), options)).rejects.toThrow(UnavailableError)
    })

    test('is closed once it is banned', async () => {
      await using world = await open(sample)
      const { source } = world
      const closed = new Promise(resolve => source.closed.addEventListener('abort', resolve))
      source.ban(new Error('it lied'))
      await closed
      await expect(source.fetchChunk(chunkOf(whole, 1), options)).rejects.toBeInstanceOf(Error)
    })
  })
}

interface TestWatch {
  readonly stop: AbortController
  held(file: TestFile): Bitfield
  /** Waits until this is so; the test's own time-out ends it. */
  until(test: () => boolean): Promise<void>
}

function watchOf(source: Source, files: readonly TestFile[]): TestWatch {
  const held = new Map(
    files.map(file => [file.root.toString(), new Bitfield(file.table.count)] as const),
  )
  const stop = new AbortController()
  let wake = (): void => undefined
  const onHave = ({ root, gained, lost }: HaveUpdate): void => {
    const bits = held.get(root.toString())
    if (bits === undefined) throw new Error(`told of ${root.toString()}, which is not watched`)
    for (const [start, end] of lost) for (let at = start; at < end; at += 1) bits.delete(at)
    for (const [start, end] of gained) for (let at = start; at < end; at += 1) bits.add(at)
    wake()
  }
  const watched = files.map(({ root, table }) => ({ root, chunks: table.count }))
  source.watch(watched, onHave, { signal: stop.signal })
  return {
    stop,
    held: file => held.get(file.root.toString()) as Bitfield,
    async until(isSo) {
      while (!isSo()) {
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
    },
  }
}
