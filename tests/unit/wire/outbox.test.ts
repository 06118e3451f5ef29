import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { UnavailableError } from '../../../src/core/errors.ts'
import { KiB } from '../../../src/core/units.ts'
import { Outbox } from '../../../src/wire/outbox.ts'

function openOutbox(): { readonly outbox: Outbox; readonly writes: number[][] } {
  const writes: number[][] = []
  const outbox = new Outbox(parts => void writes.push(parts.map(({ length }) => length)))
  return { outbox, writes }
}

test('what is sent in one turn leaves together', async () => {
  const { outbox, writes } = openOutbox()
  outbox.send([new Uint8Array(1), new Uint8Array(2)])
  outbox.send([new Uint8Array(3)])
  expect(writes).toEqual([])
  await nextTurn()
  expect(writes).toEqual([[1, 2, 3]])
  expect(outbox.bytesSent).toBe(6)
})

test('much leaves at once, with what was sent before it in front', async () => {
  const { outbox, writes } = openOutbox()
  outbox.send([new Uint8Array(1)])
  outbox.send([new Uint8Array(64 * KiB)])
  expect(writes).toEqual([[1, 64 * KiB]])
  await nextTurn()
  expect(writes).toHaveLength(1)
})

test('who sends much waits until there is room', async () => {
  const { outbox } = openOutbox()
  await outbox.drained()
  outbox.hasRoom = false
  expect(outbox.send([new Uint8Array(1)])).toBe(false)
  const drained = outbox.drained()
  outbox.hasRoom = true
  await drained
})

test('at the end everybody who waits hears why, and nothing leaves any more', async () => {
  const { outbox, writes } = openOutbox()
  const reason = new UnavailableError('gone')
  outbox.hasRoom = false
  outbox.send([new Uint8Array(1)])
  const waiting = outbox.drained().catch((error: unknown) => error)
  expect(outbox.end(reason)).toBe(true)
  expect(await waiting).toBe(reason)
  await expect(outbox.drained()).rejects.toBe(reason)
  expect(outbox.send([new Uint8Array(1)])).toBe(false)
  expect(outbox.end(new UnavailableError('again'))).toBe(false)
  await nextTurn()
  expect(writes).toEqual([])
})

test('a signal ends the waiting of one and not that of others', async () => {
  const { outbox } = openOutbox()
  outbox.hasRoom = false
  const stop = new AbortController()
  const others = outbox.drained()
  const mine = outbox.drained(stop.signal).catch((error: unknown) => error)
  const enough = new Error('enough')
  stop.abort(enough)
  expect(await mine).toBe(enough)
  outbox.hasRoom = true
  await others
})
