import type { ServerResponse } from 'node:http'
import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { Bodies } from '../../../../../daemon/http/hub/body.ts'
import { second } from '../../../../../src/core/units.ts'
import type { OpenedFile } from '../../../../../src/node.ts'
import { FakeClock, settle } from '../../../../support/fake-clock.ts'

/** What a ServerResponse is to the body: a stream with a head. */
class FakeResponse extends Writable {
  headersSent = false
  readonly writes: Buffer[] = []
  takesNothing = false

  /** Takes what was written last. */
  take: () => void = () => undefined

  override _write(chunk: Buffer, _: string, done: () => void): void {
    // A copy: the memory is used again once this was taken.
    this.writes.push(Buffer.from(chunk))
    this.take = done
    if (!this.takesNothing) done()
  }

  get bytes(): Buffer {
    return Buffer.concat(this.writes)
  }
}

/** A file of pieces that the test hands out. */
function pieces(options: { isWhole: boolean }): OpenedFile & { give(bytes: Buffer): void } {
  let waiting = Promise.withResolvers<Buffer>()
  return {
    ...options,
    give(bytes) {
      waiting.resolve(bytes)
    },
    async read(_, into) {
      const bytes = await waiting.promise
      waiting = Promise.withResolvers<Buffer>()
      bytes.copy(into)
      return into.subarray(0, bytes.length)
    },
    [Symbol.dispose]() {},
  }
}

interface Sending {
  readonly response: FakeResponse
  readonly clock: FakeClock
  readonly sent: Promise<string>
}

function send(file: OpenedFile, end: number): Sending {
  const response = new FakeResponse()
  const clock = new FakeClock()
  const writeHead = (): void => void (response.headersSent = true)
  const allowance = { allow: () => Promise.resolve() }
  const reader = { response: response as unknown as ServerResponse, clock, writeHead, allowance }
  const sent = new Bodies().send(file, { offset: 0, end }, reader).then(() => 'sent', String)
  return { response, clock, sent }
}

test('gives a byte every few seconds while nothing comes, and the rest after it, in order', async () => {
  const file = pieces({ isWhole: false })
  const first = Buffer.from(Array.from({ length: 1000 }, (_, at) => at % 251))
  const last = Buffer.from('the end')
  const { clock, response, sent } = send(file, first.length + last.length)
  file.give(first)
  await settle()
  const before = response.bytes.length
  expect(before).toBeGreaterThan(800)
  expect(before).toBeLessThan(first.length)
  for (let passed = 0; passed < 300; passed += 10) {
    const had = response.bytes.length
    await clock.advance(10 * second)
    // Never silent for ten seconds: for five minutes, as long as a download waits.
    expect(response.bytes.length).toBeGreaterThan(had)
  }
  file.give(last)
  expect(await sent).toBe('sent')
  expect(response.bytes).toEqual(Buffer.concat([first, last]))
})

test('holds nothing back of a file that is whole', async () => {
  const file = pieces({ isWhole: true })
  const { response } = send(file, 20)
  file.give(Buffer.alloc(10, 'a'))
  await settle()
  expect(response.bytes).toHaveLength(10)
})

test('says soon that the first byte does not come, with the head unwritten', async () => {
  const { clock, response, sent } = send(pieces({ isWhole: false }), 10)
  await clock.advance(9 * second)
  expect(await sent).toContain('nobody has served the first byte yet')
  expect(response.headersSent).toBe(false)
  expect(response.destroyed).toBe(false)
})

test('cuts off a reader that takes nothing', async () => {
  const file = pieces({ isWhole: true })
  const { clock, response, sent } = send(file, 20)
  response.takesNothing = true
  file.give(Buffer.alloc(10))
  await settle()
  file.give(Buffer.alloc(10))
  await clock.advance(119 * second)
  expect(response.destroyed).toBe(false)
  await clock.advance(2 * second)
  expect(await sent).not.toBe('sent')
  expect(response.destroyed).toBe(true)
})

/** A file of which every read gives a piece at once. */
function endless(bytes: number): OpenedFile {
  return {
    isWhole: true,
    read: (_, into) => Promise.resolve(into.subarray(0, bytes)),
    [Symbol.dispose]() {},
  }
}

test.for([
  ['8 KiB', 8 * 1024, true],
  ['32 KiB', 32 * 1024, false],
] as const)(
  'a reader that takes %s a second for five minutes is cut off, or served',
  async ([, bytesPerSecond, isCut]) => {
    const pieceBytes = 10 * bytesPerSecond
    const { clock, response } = send(endless(pieceBytes), 2 ** 40)
    response.takesNothing = true
    await settle()
    for (let passed = 0; passed < 300 && !response.destroyed; passed += 10) {
      await clock.advance(10 * second)
      response.take()
      await settle()
    }
    expect(response.destroyed).toBe(isCut)
    response.destroy()
  },
)
