/** The fake source keeps the contract that it stands in for. */

import { Bitfield } from '../../../src/core/bitfield.ts'
import { rawCid } from '../../../src/core/cid.ts'
import { describeSource } from '../../contract/source.contract.ts'
import { FakeSource } from '../../support/fake-source.ts'

describeSource('the fake source', ({ manifest, whole, partial, held }) => {
  const source = new FakeSource('fake', [whole, { ...partial, held: held.clone() }])
  source.manifests.set(manifest.cid.toString(), manifest.bytes)
  source.addTable(rawCid(whole.sha256), whole.table)
  const holds = held.clone()
  return Promise.resolve({
    source,
    gain(index) {
      holds.add(index)
      source.add({ ...partial, held: new Bitfield(holds.length, holds.bytes.slice()) })
    },
    leave: () => Promise.resolve(source.close()),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  })
})
