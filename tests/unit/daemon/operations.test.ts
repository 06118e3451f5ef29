/** Operations live in the daemon: found again, joined, cancelled, ended, forgotten. */

import { expect, test, vi } from 'vitest'
import { Operations, resumePulls } from '../../../daemon/operations.ts'
import type { Attachment } from '../../../daemon/operations.ts'
import type { OperationEvent } from '../../../src/api/contract.ts'
import { ConflictError, InvalidInputError, NotFoundError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import type { Logger } from '../../../src/core/log.ts'
import { hour } from '../../../src/core/units.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { aPull, aResult, openFakeNode, someAddress } from '../../support/fake-node.ts'

function setUp() {
  const node = openFakeNode()
  const clock = new FakeClock()
  let ids = 0
  const newId = (): string => `id-${(ids += 1)}`
  const operations = new Operations({ node, clock, log: silentLog, newId })
  return { node, clock, operations }
}

function allOf(attachment: Attachment): Promise<OperationEvent[]> {
  return Array.fromAsync(attachment.events(new AbortController().signal))
}

test('names the operation first and the result last', async () => {
  const { node, operations } = setUp()
  const events = allOf(operations.start(aPull('ref')))
  node.started[0]?.finish(aResult())
  expect(await events).toEqual([{ type: 'operation', id: 'id-1', attached: false }, aResult()])
  expect(operations.summary('id-1')).toMatchObject({ state: 'done', target: 'ref', kind: 'pull' })
})

test('joins a running pull that is asked for again, in whatever order its globs come', async () => {
  const { node, operations } = setUp()
  const first = operations.start(aPull('ref', { include: ['a', 'b'] }))
  const second = operations.start(aPull('ref', { include: ['b', 'a'], findTimeoutMs: 5 }))
  const other = operations.start(aPull('ref', { to: '/elsewhere' }))
  expect(second).toMatchObject({ id: first.id, attached: true })
  expect(other.id).not.toBe(first.id)
  expect(node.started).toHaveLength(2)
})

test('does not join a mirror that has another token', () => {
  const { node, operations } = setUp()
  const lists = { include: [], exclude: [] }
  const wanted = { kind: 'mirror' as const, ref: 'hf:org/m', ...lists }
  const first = operations.start({ ...wanted, allowGated: false, seed: true })
  const second = operations.start({ ...wanted, allowGated: false, seed: true, token: 'hf_x' })
  expect(second.id).not.toBe(first.id)
  expect(node.started).toHaveLength(2)
})

test('starts anew when the same request ended before', async () => {
  const { node, operations } = setUp()
  const events = allOf(operations.start(aPull('ref')))
  node.started[0]?.finish(aResult())
  await events
  expect(operations.start(aPull('ref'))).toMatchObject({ id: 'id-2', attached: false })
})

test('uses the peers that a second request for the same pull names', async () => {
  const { node, operations } = setUp()
  operations.start(aPull('ref'))
  operations.start(aPull('ref', { peers: [someAddress] }))
  await expect.poll(() => node.connected).toEqual([someAddress])
})

test('tells who follows that a named peer does not answer, and goes on', async () => {
  const { node, operations } = setUp()
  const events = allOf(operations.start(aPull('ref')))
  operations.start(aPull('ref', { peers: ['/ip4/10.0.0.1/tcp/1/x'] }))
  await expect.poll(() => node.started).toHaveLength(1)
  await new Promise(setImmediate)
  node.started[0]?.finish(aResult())
  expect(await events).toContainEqual({
    type: 'notice',
    level: 'warn',
    message: expect.stringContaining('nobody answers') as string,
  })
})

test('goes on when the last reader leaves', async () => {
  const { node, operations } = setUp()
  const leave = new AbortController()
  const attachment = operations.start(aPull('ref'))
  const reading = Array.fromAsync(attachment.events(leave.signal))
  leave.abort()
  expect(await reading).toHaveLength(1)
  expect(node.started[0]?.signal.aborted).toBe(false)
  const again = allOf(operations.attach(attachment.id))
  node.started[0]?.finish(aResult())
  expect((await again).at(-1)).toEqual(aResult())
})

test('ends a cancelled operation with ABORTED, also for those who attach later', async () => {
  const { operations } = setUp()
  const events = allOf(operations.start(aPull('ref')))
  operations.cancel('id-1')
  const last = { type: 'error', code: 'ABORTED', message: 'the operation was cancelled' }
  expect((await events).at(-1)).toEqual(last)
  expect((await allOf(operations.attach('id-1'))).at(-1)).toEqual(last)
  expect(operations.summary('id-1').state).toBe('cancelled')
  operations.cancel('id-1')
})

test('ends with the error of the taxonomy, its code and its hint', async () => {
  const { node, operations } = setUp()
  const events = allOf(operations.start(aPull('ref')))
  node.started[0]?.fail(new ConflictError('taken', { hint: 'use another' }))
  expect((await events).at(-1)).toEqual({
    type: 'error',
    code: 'CONFLICT',
    message: 'taken',
    hint: 'use another',
  })
  expect(operations.summary('id-1')).toMatchObject({ state: 'failed', error: 'taken' })
})

test('shows in a status all that run and the five that ended last', async () => {
  const { node, operations } = setUp()
  operations.start(aPull('running'))
  for (let count = 0; count < 7; count += 1) {
    const events = allOf(operations.start(aPull(`ref-${count}`)))
    node.started.at(-1)?.fail(new ConflictError('taken'))
    await events
  }
  const shown = operations.recent().map(({ target }) => target)
  expect(shown).toEqual(['running', 'ref-2', 'ref-3', 'ref-4', 'ref-5', 'ref-6'])
  expect(operations.list()).toHaveLength(8)
})

test('logs a bug with its stack and ends with INTERNAL', async () => {
  const node = openFakeNode()
  const error = vi.fn<Logger['warn']>()
  const clock = new FakeClock()
  const log = { ...silentLog, error }
  const operations = new Operations({ node, clock, log, newId: () => 'one' })
  const events = allOf(operations.start(aPull('ref')))
  const bug = new TypeError('x is not a function')
  node.started[0]?.fail(bug)
  expect((await events).at(-1)).toMatchObject({ code: 'INTERNAL' })
  expect(error).toHaveBeenCalledWith(expect.any(String), expect.objectContaining({ error: bug }))
})

test('ends as an operation what a node throws before its first await', async () => {
  const node = openFakeNode()
  node.seed = () => {
    throw new InvalidInputError('no such path')
  }
  const clock = new FakeClock()
  const operations = new Operations({ node, clock, log: silentLog, newId: () => 'one' })
  const events = await allOf(operations.start({ kind: 'seed', paths: ['/x'] }))
  expect(events.at(-1)).toMatchObject({ code: 'INVALID_INPUT' })
})

test('tells those who follow that the daemon is stopping, and takes nothing new', async () => {
  const { node, operations } = setUp()
  const events = allOf(operations.start(aPull('ref')))
  operations.close()
  await node[Symbol.asyncDispose]()
  await operations.settled()
  expect((await events).at(-1)).toMatchObject({
    code: 'UNAVAILABLE',
    hint: expect.stringMatching(/goes on/) as string,
  })
  expect(() => operations.start(aPull('other'))).toThrow('stopping')
  expect(node.pendingPulls()).toEqual([aPull('ref')])
})

test('refuses more than 64 at a time', () => {
  const { operations } = setUp()
  for (let count = 0; count < 64; count += 1) operations.start(aPull(`ref-${count}`))
  expect(() => operations.start(aPull('one-more'))).toThrow(/64 operations/)
  expect(operations.start(aPull('ref-3')).attached).toBe(true)
})

test('forgets finished ones after an hour, and beyond a hundred the oldest', async () => {
  const { node, clock, operations } = setUp()
  for (let count = 0; count < 120; count += 1) {
    const events = allOf(operations.start(aPull(`ref-${count}`)))
    node.started.at(-1)?.finish(aResult())
    await events
  }
  expect(operations.list().map(({ target }) => target)[0]).toBe('ref-20')
  await clock.advance(hour / 2)
  operations.start(aPull('running'))
  await clock.advance(hour / 2 + 1)
  expect(operations.list().map(({ target }) => target)).toEqual(['running'])
  expect(() => operations.attach('id-100')).toThrow(NotFoundError)
})

test('resumes every pending pull, and says which it could not', () => {
  const { node, operations } = setUp()
  const warn = vi.fn<Logger['warn']>()
  const pulls = Array.from({ length: 65 }, (_, index) => aPull(`ref-${index}`))
  resumePulls(operations, pulls, { ...silentLog, warn })
  expect(node.started).toHaveLength(64)
  expect(warn).toHaveBeenCalledOnce()
})
