import { expect, test } from 'vitest'
import { z } from 'zod'
import { contractDigest } from '../../../src/api/contract-digest.ts'
import * as api from '../../../src/api/contract.ts'

test('is the same for the same contract', () => {
  expect(contractDigest()).toMatch(/^[0-9a-f]{16}$/)
  expect(contractDigest({ ...api })).toBe(contractDigest())
})

test.for([
  ['a field more', { pullRequestSchema: api.pullRequestSchema.extend({ more: z.string() }) }],
  ['a field less', { linkSchema: api.linkSchema.omit({ name: true }) }],
  ['a wider bound', { refSchema: z.string().min(1).max(5000) }],
  ['another schema', { moreSchema: z.string() }],
] as const)('is another with %s', ([, change]) => {
  expect(contractDigest({ ...api, ...change })).not.toBe(contractDigest())
})
