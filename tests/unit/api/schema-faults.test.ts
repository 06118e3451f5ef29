import { expect, test } from 'vitest'
import { z } from 'zod'
import { pullRequestSchema } from '../../../src/api/contract.ts'
import { schemaFault, schemaHint, valueFault } from '../../../src/api/schema-faults.ts'

const pull = { kind: 'pull', ref: 'x' }

test.for([
  [{ ...pull, ref: '' }, 'ref is empty'],
  [{ ...pull, ref: 'x'.repeat(70_000) }, 'ref is longer than 4096 characters'],
  [{ ...pull, ref: 1 }, 'ref must be text'],
  [{ ...pull, peers: Array.from({ length: 101 }, () => 'x') }, 'peers has more than 100 entries'],
  [{ ...pull, peers: ['x'.repeat(513)] }, 'peers.0 is longer than 512 characters'],
  [{ ...pull, maxDown: 1 }, 'maxDown must be at least 16384'],
  [{ ...pull, findTimeoutMs: 1e9 }, 'findTimeoutMs must be at most 86400000'],
  [{ ...pull, seed: 'yes' }, 'seed must be true or false'],
  [{ ...pull, kind: 'push' }, 'kind must be pull'],
  [{ ...pull, more: 1, most: 2 }, 'the request has an unknown field: more, most'],
  ['x', 'the request must be an object'],
] as const)('says in plain words what is wrong with %j', ([value, words]) => {
  const { error } = pullRequestSchema.safeParse(value)
  expect(schemaFault(error as z.ZodError, 'the request')).toBe(words)
})

test('says what a wrong part should look like, where that helps', () => {
  const hintOf = (value: unknown): string | undefined =>
    schemaHint(pullRequestSchema.safeParse(value).error as z.ZodError).hint
  expect(hintOf({ ...pull, ref: '' })).toContain('cw://')
  expect(hintOf({ ...pull, peers: [''] })).toContain('/ip4/')
  expect(hintOf({ ...pull, seed: 1 })).toBeUndefined()
})

test('leaves a sentence of ours as it is', () => {
  const schema = z.string().refine(() => false, { message: 'Expected HOST:PORT, or off' })
  const { error } = schema.safeParse('x')
  expect(valueFault(error as z.ZodError, 'http.listen from --http')).toBe(
    'http.listen from --http: expected HOST:PORT, or off',
  )
})
