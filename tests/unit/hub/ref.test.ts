import fc from 'fast-check'
import { expect, test } from 'vitest'
import { InvalidInputError } from '../../../src/core/errors.ts'
import {
  apiPath,
  encodePath,
  formatHubRef,
  parseCommitRef,
  parseHubRef,
  repoPath,
  resolvePath,
} from '../../../src/hub/ref.ts'

const commit = 'a'.repeat(40)

test.for([
  ['hf:org/Model-1.0', { type: 'model', repo: 'org/Model-1.0', revision: 'main' }],
  ['hf:gpt2', { type: 'model', repo: 'gpt2', revision: 'main' }],
  ['hf:org/m@v1.0', { type: 'model', repo: 'org/m', revision: 'v1.0' }],
  ['hf:org/m@refs/pr/7', { type: 'model', repo: 'org/m', revision: 'refs/pr/7' }],
  ['hf:datasets/org/d', { type: 'dataset', repo: 'org/d', revision: 'main' }],
  [`hf:spaces/org/s@${commit}`, { type: 'space', repo: 'org/s', revision: commit }],
] as const)('reads %s, and writes it the same', ([text, ref]) => {
  expect(parseHubRef(text)).toEqual(ref)
  expect(formatHubRef(ref)).toBe(text)
})

test.for([
  'org/model',
  'hf:',
  'hf:a/b/c',
  'hf:../b',
  'hf:a/b--c',
  'hf:a/.b',
  'hf:a/b@',
  'hf:a/b@../x',
  'hf:a/b@a b',
  'hf:a/b@a?b',
  'hf:a/b@a#b',
  'hf:a/b@a%2Fb',
  `hf:a/b@${'x'.repeat(201)}`,
  'hf:datasets/',
  'https://huggingface.co/a/b',
])('refuses %j', text => {
  expect(() => parseHubRef(text)).toThrow(InvalidInputError)
})

test.for([
  ['org/model', 'hf:org/model'],
  ['https://huggingface.co/datasets/org/d/', 'hf:datasets/org/d'],
  ['https://hf.co/org/model', 'hf:org/model'],
  ['https://example.org/org/model', 'hf:ORG/MODEL'],
] as const)('of %s, says how it is written', ([text, hint]) => {
  expect(() => parseHubRef(text)).toThrow(
    expect.objectContaining({ hint: expect.stringContaining(hint) }),
  )
})

test('a commit is 40 digits, and nothing else will do where one is needed', () => {
  expect(parseCommitRef(`hf:a/b@${commit}`).revision).toBe(commit)
  expect(() => parseCommitRef('hf:a/b')).toThrow('does not name a commit')
  expect(() => parseCommitRef('hf:a/b@main')).toThrow('does not name a commit')
})

test('URLs name the repository by its type, and encode each segment of a path', () => {
  expect(repoPath({ type: 'dataset', repo: 'o/d' })).toBe('datasets/o/d')
  expect(apiPath({ type: 'space', repo: 'o/s' }, '/refs')).toBe('/api/spaces/o/s/refs')
  expect(resolvePath({ type: 'dataset', repo: 'o/d' }, commit)).toBe(
    `/datasets/o/d/resolve/${commit}/`,
  )
  expect(encodePath('a b/#1?%.txt')).toBe('a%20b/%231%3F%25.txt')
})

function readOrRefused(text: string): boolean {
  try {
    return parseHubRef(text).repo !== ''
  } catch (error) {
    return error instanceof InvalidInputError
  }
}

test('whatever text comes, it is refused as bad input or read', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 30 }), text => {
      expect(readOrRefused(`hf:${text}`)).toBe(true)
    }),
  )
})
