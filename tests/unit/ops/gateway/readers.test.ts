import { expect, test } from 'vitest'
import { rawCid } from '../../../../src/core/cid.ts'
import { sha256 } from '../../../../src/core/digest.ts'
import { second } from '../../../../src/core/units.ts'
import { Readers } from '../../../../src/ops/gateway/readers.ts'
import { FakeClock } from '../../../support/fake-clock.ts'

const root = rawCid(sha256(Buffer.from('a file')))

function open(): {
  clock: FakeClock
  closing: AbortController
  paused: string[]
  idle: string[]
  readers: Readers
} {
  const clock = new FakeClock()
  const closing = new AbortController()
  const idle: string[] = []
  const paused: string[] = []
  const onPause = (file: typeof root): void => void paused.push(file.toString())
  const onIdle = (file: typeof root): void => void idle.push(file.toString())
  const readers = new Readers({ clock, closing: closing.signal, onPause, onIdle })
  return { clock, closing, paused, idle, readers }
}

test('a file is in use until its last reader has been gone for half a minute', async () => {
  const { clock, idle, paused, readers } = open()
  expect(readers.isUsed(root)).toBe(false)
  readers.enter(root)
  readers.enter(root)
  readers.leave(root)
  await clock.advance(100 * second)
  expect([readers.isUsed(root), idle]).toEqual([true, []])
  expect(paused).toEqual([])
  readers.leave(root)
  expect(paused).toEqual([root.toString()])
  await clock.advance(29 * second)
  expect([readers.isUsed(root), idle]).toEqual([true, []])
  await clock.advance(2 * second)
  expect([readers.isUsed(root), idle]).toEqual([false, [root.toString()]])
})

test('who comes back in time keeps it, and the time begins anew', async () => {
  const { clock, idle, readers } = open()
  readers.enter(root)
  readers.leave(root)
  await clock.advance(20 * second)
  readers.enter(root)
  await clock.advance(20 * second)
  readers.leave(root)
  await clock.advance(20 * second)
  expect([readers.isUsed(root), idle]).toEqual([true, []])
  await clock.advance(20 * second)
  expect(idle).toHaveLength(1)
})

test('nobody is waited for when the node closes', async () => {
  const { clock, closing, idle, readers } = open()
  readers.enter(root)
  readers.leave(root)
  closing.abort()
  await clock.advance(100 * second)
  expect(idle).toEqual([])
})
