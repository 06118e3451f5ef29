import { expect, test } from 'vitest'
import { openWork } from '../../../src/ops/work.ts'

test('closing aborts what runs and waits until it has ended', async () => {
  const work = openWork()
  const ended: string[] = []
  const task = work.run(async signal => {
    await new Promise(resolve => signal.addEventListener('abort', resolve))
    await Promise.resolve()
    ended.push('task')
  })
  await work[Symbol.asyncDispose]()
  ended.push('closed')
  await task
  expect(ended).toEqual(['task', 'closed'])
})

test("passes on the caller's own abort, and its reason", async () => {
  await using work = openWork()
  const stop = new AbortController()
  const task = work.run(
    signal =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error))
      }),
    stop.signal,
  )
  stop.abort(new DOMException('enough', 'AbortError'))
  await expect(task).rejects.toThrow('enough')
  expect(work.closing.aborted).toBe(false)
})

test('takes nothing new once closed', async () => {
  const work = openWork()
  await work[Symbol.asyncDispose]()
  await expect(work.run(() => Promise.resolve(1))).rejects.toThrow('closing')
})
