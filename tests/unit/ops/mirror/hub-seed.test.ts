import { expect, test } from 'vitest'
import { hubSeedsOf } from '../../../../src/ops/mirror/hub-seed.ts'
import type { Origin } from '../../../../src/store/store.ts'
import { smallFile } from '../../../support/manifests.ts'

const { root: manifest } = smallFile('x')
const commit = 'a'.repeat(40)
const origin: Origin = {
  manifest,
  hub: 'huggingface.co',
  type: 'model',
  repo: 'org/Model',
  revision: commit,
  upstream: 'https://huggingface.co',
  isWhole: true,
  seenAtMs: 0,
  facts: '{"gated":null}',
}

function seedsOf(change: Partial<Origin> | undefined): string[] {
  const known = change === undefined ? undefined : { ...origin, ...change }
  return hubSeedsOf({ originOf: () => known }, manifest)
}

test('a hub that serves everybody is a web seed of the commit', () => {
  expect(seedsOf({})).toEqual([`https://huggingface.co/org/Model/resolve/${commit}/`])
  expect(seedsOf({ type: 'dataset', upstream: 'https://mirror.example/' })).toEqual([
    `https://mirror.example/datasets/org/Model/resolve/${commit}/`,
  ])
})

test.for([
  ['a gated repository', { facts: '{"gated":"manual"}' }],
  ['a hub of the own network', { upstream: 'http://127.0.0.1:4080' }],
  ['a hub that was not asked', { upstream: '' }],
  ['a type that is not known', { type: 'kernel' }],
  ['no hub', undefined],
] as const)('of %s there is none', ([, change]) => {
  expect(seedsOf(change)).toEqual([])
})
