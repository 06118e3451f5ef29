import { expect, test } from 'vitest'
import { pullRequestSchema } from '../../../src/api/contract.ts'
import { UnavailableError } from '../../../src/core/errors.ts'
import { pendingPulls, type PendingStore, rememberPull } from '../../../src/ops/pending.ts'

const request = pullRequestSchema.parse({ kind: 'pull', ref: 'org/model' })

function memoryPending(): PendingStore & { rows: Map<string, string> } {
  const rows = new Map<string, string>()
  return {
    rows,
    putPending: ({ id, request: text }) => void rows.set(id, text),
    deletePending: id => void rows.delete(id),
    pending: () => [...rows].map(([id, text]) => ({ id, request: text })),
  }
}

const aborted = new DOMException('stop', 'AbortError')

test('a pull under way is remembered, one that ended is not', async () => {
  const store = memoryPending()
  await rememberPull(
    store,
    request,
    () => {
      expect(pendingPulls(store)).toEqual([request])
      return Promise.resolve()
    },
    () => false,
  )
  expect(pendingPulls(store)).toEqual([])
})

test.for([
  ['kept when the node closes', aborted, true, 1],
  ['forgotten when its user cancels it', aborted, false, 0],
  ['forgotten when it fails', new UnavailableError('nobody'), false, 0],
  ['forgotten when it fails while the node closes', new UnavailableError('nobody'), true, 0],
] as const)('%s', async ([, error, isClosing, left]) => {
  const store = memoryPending()
  const run = rememberPull(
    store,
    request,
    () => Promise.reject(error),
    () => isClosing,
  )
  await expect(run).rejects.toBe(error)
  expect(store.rows.size).toBe(left)
})

test('drops a note it cannot read', () => {
  const store = memoryPending()
  store.rows.set('a', '{"kind":"pull","ref":"x","newer":true}')
  store.rows.set('b', 'not JSON')
  expect(pendingPulls(store)).toEqual([])
  expect(store.rows.size).toBe(0)
})
