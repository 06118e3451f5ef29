import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { Interrupts } from '../../../cli/interrupts.ts'

test('aborts the command when nothing handles the interruption', () => {
  const source = new EventEmitter()
  using interrupts = new Interrupts(source)
  source.emit('SIGINT')
  expect(interrupts.signal.reason).toMatchObject({ name: 'AbortError' })
})

test('asks the handler instead, with how often it was, until it is gone', () => {
  const source = new EventEmitter()
  using interrupts = new Interrupts(source)
  const times: number[] = []
  const handling = interrupts.handle(count => times.push(count))
  source.emit('SIGINT')
  source.emit('SIGTERM')
  expect(times).toEqual([1, 2])
  expect(interrupts.signal.aborted).toBe(false)
  handling[Symbol.dispose]()
  source.emit('SIGINT')
  expect(interrupts.signal.aborted).toBe(true)
})

test('lets go of the signals when disposed', () => {
  const source = new EventEmitter()
  new Interrupts(source)[Symbol.dispose]()
  expect(source.listenerCount('SIGINT') + source.listenerCount('SIGTERM')).toBe(0)
})
