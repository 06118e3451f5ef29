/** Files written by the reference implementations of safetensors and GGUF: we cut where their tensors start. */

import { open } from 'node:fs/promises'
import { expect, test } from 'vitest'
import type { ByteSource } from '../../src/core/bytes.ts'
import { tensorStarts } from '../../src/formats/detect.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { pythonWith } from './python.ts'

/** Prints the offset of each tensor's bytes, found by looking for them: independent of any header. */
const writeSafetensors = `
import sys, numpy as np, json
from safetensors.numpy import save_file
rng = np.random.default_rng(7)
tensors = {f"layer.{n}.weight": rng.standard_normal((64, 32 + n)).astype(np.float32) for n in range(12)}
tensors["half"] = rng.standard_normal((100,)).astype(np.float16)
tensors["bytes"] = rng.integers(0, 255, (1001,), dtype=np.uint8)
save_file(tensors, sys.argv[1], metadata={"format": "np"})
data = open(sys.argv[1], "rb").read()
print(json.dumps(sorted(data.index(t.tobytes()) for t in tensors.values())))
`

/** Prints the offsets that the reference reader finds. */
const writeGguf = `
import sys, numpy as np, json
from gguf import GGUFWriter, GGUFReader
rng = np.random.default_rng(7)
writer = GGUFWriter(sys.argv[1], "llama")
writer.add_custom_alignment(int(sys.argv[2]))
writer.add_token_list([f"token{n}" for n in range(1000)])
writer.add_token_scores([0.5] * 1000)
writer.add_string("general.description", "made for a test")
for n in range(9):
    writer.add_tensor(f"blk.{n}.weight", rng.standard_normal((32, 32 + n)).astype(np.float32))
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
print(json.dumps(sorted(int(t.data_offset) for t in GGUFReader(sys.argv[1]).tensors)))
`

async function startsOf(path: string): Promise<readonly number[]> {
  await using file = await open(path)
  const { size } = await file.stat()
  const source: ByteSource = {
    size,
    async readAt(offset, length) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
      if (bytesRead !== length) throw new RangeError('short read')
      return buffer
    },
  }
  return await tensorStarts(source)
}

test('cuts a file of the safetensors library at its tensors', async context => {
  const python = await pythonWith(['safetensors==0.6.2', 'numpy==2.2.6'])
  if (!python.found) return context.skip(python.reason)
  await using scratch = await openScratchFolder()
  const path = scratch.file('model.safetensors')
  const offsets = JSON.parse(await python.run(writeSafetensors, [path])) as number[]
  expect(offsets).toHaveLength(14)
  expect(await startsOf(path)).toEqual([0, ...offsets])
})

test.for([32, 256])(
  'cuts a file of the gguf library at its tensors, aligned to %i',
  async (alignment, context) => {
    const python = await pythonWith(['gguf==0.17.1', 'numpy==2.2.6'])
    if (!python.found) return context.skip(python.reason)
    await using scratch = await openScratchFolder()
    const path = scratch.file('model.gguf')
    const offsets = JSON.parse(await python.run(writeGguf, [path, String(alignment)])) as number[]
    expect(offsets).toHaveLength(9)
    expect(await startsOf(path)).toEqual([0, ...offsets])
  },
)
