import { expect, test } from 'vitest'
import { mirrorRequestSchema, pullRequestSchema } from '../../../../src/api/contract.ts'
import { StorageError, UnavailableError } from '../../../../src/core/errors.ts'
import {
  forgetPulls,
  pendingPulls,
  type PendingStore,
  rememberPull,
} from '../../../../src/ops/pull/pending.ts'

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
  ['kept when nobody serves what is missing', new UnavailableError('nobody'), false, 1],
  ['forgotten when it fails', new StorageError('full'), false, 0],
  ['forgotten when it fails while the node closes', new StorageError('full'), true, 0],
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

test('forgets the pulls that are meant, and no others', () => {
  const store = memoryPending()
  const other = { ...request, ref: 'org/other' }
  store.rows.set('a', JSON.stringify(request))
  store.rows.set('b', JSON.stringify(other))
  forgetPulls(store, ({ ref }) => ref === 'org/model')
  expect(pendingPulls(store)).toEqual([other])
})

test('a mirror is remembered without its token', async () => {
  const store = memoryPending()
  const mirror = mirrorRequestSchema.parse({ kind: 'mirror', ref: 'hf:a/b', token: 'hf_secret' })
  const run = rememberPull(
    store,
    mirror,
    () => Promise.reject(aborted),
    () => true,
  )
  await expect(run).rejects.toBe(aborted)
  const { token: _, ...rest } = mirror
  expect(pendingPulls(store)).toEqual([rest])
  expect([...store.rows].join('')).not.toContain('hf_secret')
})
