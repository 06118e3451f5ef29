import { expect, test } from 'vitest'
import { rawCid } from '../../../src/core/cid.ts'
import { sha256 } from '../../../src/core/digest.ts'
import { namesModel, selectFiles } from '../../../src/ops/select.ts'

const digest = sha256(new Uint8Array(1))
const files = [
  'README.md',
  '.hidden/config.json',
  'model.safetensors',
  'onnx/model.onnx',
  'onnx/model.safetensors',
].map(path => ({ path, size: 1, sha256: digest, root: rawCid(digest) }))

function pathsOf(include: string[], exclude: string[] = []): string[] {
  return selectFiles(files, { include, exclude }).map(({ path }) => path)
}

test('takes everything when nothing is said', () => {
  expect(pathsOf([])).toHaveLength(files.length)
})

test('matches file names anywhere when a glob has no slash', () => {
  expect(pathsOf(['*.safetensors'])).toEqual(['model.safetensors', 'onnx/model.safetensors'])
})

test('matches whole paths when a glob has a slash', () => {
  expect(pathsOf(['onnx/*'])).toEqual(['onnx/model.onnx', 'onnx/model.safetensors'])
  expect(pathsOf(['onnx/**'], ['*.onnx'])).toEqual(['onnx/model.safetensors'])
})

test('sees hidden files', () => {
  expect(pathsOf(['*.json'])).toEqual(['.hidden/config.json'])
})

test('says which files there are when nothing is left', () => {
  expect(() => pathsOf(['*.gguf'])).toThrow(
    expect.objectContaining({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('README.md') as string,
    }),
  )
})

test('models are meant by their names, whatever the case', () => {
  const meant = (include: string[], exclude: string[] = []): string[] =>
    ['Org/Model', 'org/private-model', 'datasets/org/data', 'gpt2'].filter(
      namesModel({ include, exclude }),
    )
  expect(meant([])).toHaveLength(4)
  expect(meant(['org/*'])).toEqual(['Org/Model', 'org/private-model'])
  expect(meant([], ['org/*', '*data'])).toEqual(['gpt2'])
  expect(meant(['*private*'])).toEqual(['org/private-model'])
})
