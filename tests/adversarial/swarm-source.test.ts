/** A peer over loopback TCP held to the contract of every source. */

import { rawCid } from '../../src/core/cid.ts'
import { describeSource } from '../contract/source.contract.ts'
import { openSwarmNode } from '../support/libp2p-pair.ts'
import { MemoryReader, type SampleFile } from '../support/memory-reader.ts'
import type { TestFile } from '../support/store-fixture.ts'

function sampleOf({ bytes, root, sha256, table }: TestFile): SampleFile {
  return { bytes, root, whole: rawCid(sha256), table }
}

describeSource('a peer over loopback', async ({ manifest, whole, partial, held }) => {
  await using stack = new AsyncDisposableStack()
  const someFile = sampleOf(partial)
  const indexes = [...held.runs()].map(([start]) => start)
  const reader = new MemoryReader()
    .addManifest(manifest)
    .addFile(sampleOf(whole))
    .addFile(someFile, indexes)
  const holder = stack.use(await openSwarmNode({ reader }))
  const asker = stack.use(await openSwarmNode())
  const source = await asker.swarm.connect(holder.hint(), { signal: AbortSignal.timeout(5000) })
  const owned = stack.move()
  return {
    source,
    gain: index => reader.gain(someFile, index),
    leave: async () => holder[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
})
