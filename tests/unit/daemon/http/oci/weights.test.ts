import { expect, test } from 'vitest'
import {
  besideOf,
  companionsOf,
  defaultWeights,
  findWeights,
  type Weights,
  weightsMax,
  weightsOf,
} from '../../../../../daemon/http/oci/weights.ts'
import type { GitFile } from '../../../../../src/manifest/git-commit.ts'

/** Of a file only its path counts. */
function filesAt(...paths: string[]): GitFile[] {
  return paths.map(path => ({ kind: 'file', path }) as GitFile)
}

const tagsOf = (...paths: string[]): string[] => weightsOf(filesAt(...paths)).map(({ tag }) => tag)

test.for([
  ['model-Q4_K_M.gguf', 'Q4_K_M'],
  ['model.q4_0.gguf', 'q4_0'],
  ['Llama-3.2-1B-Instruct-IQ2_XXS.gguf', 'IQ2_XXS'],
  ['Qwen3-UD-Q4_K_XL.gguf', 'UD-Q4_K_XL'],
  ['gpt-oss-20b-mxfp4.GGUF', 'mxfp4'],
  ['model-TQ1_0-00001-of-00003.gguf', 'TQ1_0'],
  ['Q8_0/model.gguf', 'Q8_0'],
  ['BF16.gguf', 'BF16'],
  ['ggml-model-f16.gguf', 'f16'],
  ['model.gguf', 'model'],
  ['modelQ4_0.gguf', 'modelQ4_0'],
])('%s has the tag %s', ([path = '', tag]) => {
  expect(tagsOf(path)).toEqual([tag])
})

test('shards are one, projectors and statistics are none', () => {
  const all = weightsOf(
    filesAt(
      'a-F16-00001-of-00002.gguf',
      'a-F16-00002-of-00002.gguf',
      'imatrix_unsloth.gguf',
      'mmproj-F16.gguf',
      'model.safetensors',
    ),
  )
  expect(all.map(({ files, tag }) => [tag, files.map(({ path }) => path)])).toEqual([
    ['F16', ['a-F16-00001-of-00002.gguf', 'a-F16-00002-of-00002.gguf']],
  ])
})

test('a shard is one of several, even when it is alone', () => {
  const all = weightsOf(filesAt('a-F16-00001-of-00002.gguf', 'b-Q8_0.gguf'))
  expect(all.map(({ isSharded }) => isSharded)).toEqual([true, false])
  expect(defaultWeights(all.slice(0, 1))?.tag).toBe('F16')
})

test('a file is none of the shards of its name', () => {
  expect(tagsOf('a-F16-00001-of-00002.gguf', 'a-F16-00002-of-00002.gguf', 'a-F16.gguf')).toEqual([
    'F16',
    'a-F16',
  ])
})

test('a quant that two files have is the tag of the first', () => {
  expect(tagsOf('a-Q8_0.gguf', 'b-Q8_0.gguf', 'c-q8_0.gguf')).toEqual(['Q8_0', 'b-Q8_0', 'c-q8_0'])
})

test('what cannot be written as a tag has none', () => {
  expect(tagsOf('some model.gguf', `${'x'.repeat(130)}.gguf`, 'ä.gguf')).toEqual([])
})

test('files without end make no tags without end', () => {
  const paths = Array.from({ length: 10_000 }, (_, index) => `m${index}.gguf`)
  expect(tagsOf(...paths)).toHaveLength(weightsMax)
})

test.for([
  ['q4_k_m', 'a-Q4_K_M.gguf'],
  ['A-q4_k_M.GGUF', 'a-Q4_K_M.gguf'],
  ['a-q4_k_m', 'a-Q4_K_M.gguf'],
  ['q2_k_xl', 'a-UD-Q2_K_XL.gguf'],
  ['ud-q2_k_xl', 'a-UD-Q2_K_XL.gguf'],
  ['q9', undefined],
] as const)('the tag %s finds %s', ([tag, path]) => {
  const all = weightsOf(filesAt('a-Q4_K_M.gguf', 'a-UD-Q2_K_XL.gguf'))
  expect(findWeights(all, tag)?.files[0]?.path).toBe(path)
})

test.for([
  [['a-Q2_K.gguf', 'a-Q8_0.gguf', 'a-q4_k_m.gguf'], 'q4_k_m'],
  [['a-Q2_K.gguf', 'a-Q8_0.gguf'], 'Q8_0'],
  [['a-Q2_K.gguf', 'a-Q6_K.gguf'], 'Q2_K'],
  [['a-Q4_K_M-00001-of-00002.gguf', 'a-Q4_K_M-00002-of-00002.gguf', 'b-IQ1_S.gguf'], 'IQ1_S'],
  [['config.json'], undefined],
] as const)('of %j the default is %s', ([paths, tag]) => {
  expect(defaultWeights(weightsOf(filesAt(...paths)))?.tag).toBe(tag)
})

test('the projector is one of the same folder, and the most exact', () => {
  const files = filesAt(
    'a/model-Q8_0.gguf',
    'a/mmproj-q8_0.gguf',
    'b/mmproj-f16.gguf',
    'mmproj-BF16.gguf',
    'mmproj-F16.gguf',
    'model-Q8_0.gguf',
  )
  const [inFolder, atTop] = weightsOf(files)
  const projectors = [inFolder, atTop].map(weights => {
    const { projector } = companionsOf(besideOf(files), weights as Weights)
    return projector?.path
  })
  expect(projectors).toEqual(['a/mmproj-q8_0.gguf', 'mmproj-F16.gguf'])
})

test('only what lies at the top goes along', () => {
  const files = filesAt(
    'LICENSE.md',
    'a.gguf',
    'docs/template',
    'params',
    'params.json',
    'x/system',
  )
  const [weights] = weightsOf(files)
  const { license, params, system, template } = companionsOf(besideOf(files), weights as Weights)
  expect([license?.path, params?.path, system, template]).toEqual([
    'LICENSE.md',
    'params',
    undefined,
    undefined,
  ])
})
