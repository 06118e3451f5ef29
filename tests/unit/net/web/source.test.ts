import { expect, test } from 'vitest'
import { Bitfield } from '../../../../src/core/bitfield.ts'
import { LimitError, ProtocolError, UnavailableError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { minute, second } from '../../../../src/core/units.ts'
import type { WebAnswer } from '../../../../src/net/web/client.ts'
import type { RangeAsk } from '../../../../src/net/web/range-answer.ts'
import { WebSource } from '../../../../src/net/web/source.ts'
import type { ChunkRequest, HaveUpdate } from '../../../../src/transfer/source.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { type TestFile, testFile } from '../../../support/store-fixture.ts'

const weights = testFile('web/weights', [1000, 1000, 77])
const config = testFile('web/config', [50])
const options = { signal: new AbortController().signal }

type Answer = WebAnswer | Error

class FakeClient {
  readonly asked: { readonly url: string; readonly ask: RangeAsk }[] = []
  answer: (url: string, ask: RangeAsk) => Answer | Promise<Answer> = (_, { length }) => {
    return { type: 'bytes', bytes: new Uint8Array(length) }
  }

  async fetchRange(url: URL, ask: RangeAsk): Promise<WebAnswer> {
    this.asked.push({ url: url.pathname, ask })
    const answer = await this.answer(url.pathname, ask)
    if (answer instanceof Error) throw answer
    return answer
  }
}

function openSource() {
  const clock = new FakeClock()
  const client = new FakeClient()
  const notices: string[] = []
  const onNotice = (_: string, message: string): void => void notices.push(message)
  const files = Object.entries({ 'weights.bin': weights, 'config.json': config }).map(
    ([path, { root, table }]) => {
      return { path, root, size: table.size, url: new URL(`https://a.example/${path}`) }
    },
  )
  const deps = { client, clock, log: silentLog, onNotice }
  const source = new WebSource(deps, 'https://a.example/', files)
  const held = new Map([weights, config].map(file => [file, new Bitfield(file.table.count)]))
  source.watch(
    [weights, config].map(({ root, table }) => ({ root, chunks: table.count })),
    ({ root, gained, lost }: HaveUpdate) => {
      const [, bits] = [...held].find(([file]) => file.root.equals(root)) ?? []
      for (const [start, end] of lost) for (let at = start; at < end; at += 1) bits?.delete(at)
      for (const [start, end] of gained) for (let at = start; at < end; at += 1) bits?.add(at)
    },
    options,
  )
  const count = (file: TestFile): number | undefined => held.get(file)?.count
  return { source, client, clock, notices, count }
}

function chunkOf({ root, table }: TestFile, index: number): ChunkRequest {
  const { offset, length } = table.ref(index)
  return { root, index, offset, length }
}

test('holds all files until it says that it does not, and asks for chunks as byte ranges', async () => {
  const { source, client, count } = openSource()
  expect([count(weights), count(config)]).toEqual([3, 1])
  await source.fetchChunk(chunkOf(weights, 2), options)
  expect(client.asked).toEqual([
    { url: '/weights.bin', ask: { offset: 2000, length: 77, size: 2077 } },
  ])
})

test('has no manifests and no chunk tables', async () => {
  const { source } = openSource()
  await expect(source.fetchManifest()).rejects.toThrow(UnavailableError)
  await expect(source.fetchTable()).rejects.toThrow(UnavailableError)
})

test('a file that is missing is not claimed any more, and said once', async () => {
  const { source, client, count, notices } = openSource()
  client.answer = () => ({ type: 'missing', why: 'it answered 404' })
  await expect(source.fetchChunk(chunkOf(weights, 0), options)).rejects.toThrow(UnavailableError)
  expect([count(weights), count(config)]).toEqual([0, 1])
  // Without asking.
  await expect(source.fetchChunk(chunkOf(weights, 1), options)).rejects.toThrow(UnavailableError)
  expect(client.asked.length).toBe(1)
  await expect(source.fetchChunk(chunkOf(config, 0), options)).rejects.toThrow(UnavailableError)
  expect(notices).toEqual([
    'the web seed https://a.example/ does not serve weights.bin: it answered 404',
  ])
})

test('a server without ranges is good for the start of a file, and said once', async () => {
  const { source, client, count, notices } = openSource()
  client.answer = () => ({ type: 'no-ranges' })
  for (const index of [1, 2]) {
    const chunk = source.fetchChunk(chunkOf(weights, index), options)
    await expect(chunk).rejects.toThrow(UnavailableError)
  }
  expect([count(weights), count(config)]).toEqual([1, 1])
  expect(notices).toEqual([
    'the web seed https://a.example/ gives whole files only, no byte ranges: of little use beside peers',
  ])
})

test('busy means holding nothing for as long as it asks, and then all again', async () => {
  const { source, client, clock, count } = openSource()
  client.answer = () => ({ type: 'busy', why: 'it answered 429', retryMs: 30 * second })
  await expect(source.fetchChunk(chunkOf(weights, 0), options)).rejects.toThrow(LimitError)
  expect([count(weights), count(config)]).toEqual([0, 0])
  await expect(source.fetchChunk(chunkOf(weights, 1), options)).rejects.toThrow(LimitError)
  expect(client.asked.length).toBe(1)
  await clock.advance(29 * second)
  expect(count(weights)).toBe(0)
  await clock.advance(second)
  expect([count(weights), count(config)]).toEqual([3, 1])
})

test('a Retry-After of a year is not waited for', async () => {
  const { source, client, clock, count } = openSource()
  client.answer = () => ({ type: 'busy', why: 'it answered 503', retryMs: 365 * 86_400_000 })
  await source.fetchChunk(chunkOf(weights, 0), options).catch(() => undefined)
  await clock.advance(10 * minute)
  expect(count(weights)).toBe(3)
})

test('a server that is gone is tried again later and later, and at once again after it answered', async () => {
  const { source, client, clock, count } = openSource()
  const broken = new UnavailableError('it cannot be reached')
  const pauses: number[] = []
  const fail = async (): Promise<void> => {
    client.answer = () => broken
    // Six requests fail together and are one failure.
    const requests = Array.from({ length: 6 }, () =>
      source.fetchChunk(chunkOf(weights, 0), options),
    )
    expect((await Promise.allSettled(requests)).every(({ status }) => status === 'rejected')).toBe(
      true,
    )
    let seconds = 0
    for (; count(weights) === 0; seconds += 1) await clock.advance(second)
    pauses.push(seconds)
  }
  for (let round = 0; round < 7; round += 1) await fail()
  expect(pauses).toEqual([2, 4, 8, 16, 32, 60, 60])
  client.answer = (_, { length }) => ({ type: 'bytes', bytes: new Uint8Array(length) })
  await source.fetchChunk(chunkOf(weights, 0), options)
  await fail()
  expect(pauses.at(-1)).toBe(2)
})

test('what goes missing during a pause is missing after it', async () => {
  const { source, client, clock, count } = openSource()
  const late = Promise.withResolvers<Answer>()
  client.answer = url =>
    url === '/config.json' ? { type: 'failing', why: 'it answered 500' } : late.promise
  const pending = source.fetchChunk(chunkOf(weights, 0), options)
  await source.fetchChunk(chunkOf(config, 0), options).catch(() => undefined)
  late.resolve({ type: 'missing', why: 'it answered 404' })
  await expect(pending).rejects.toThrow(UnavailableError)
  await clock.advance(minute)
  expect([count(weights), count(config)]).toEqual([0, 1])
})

test('breaking the rules is passed on to whoever bans', async () => {
  const { source, client } = openSource()
  client.answer = () => new ProtocolError('it sent another range')
  await expect(source.fetchChunk(chunkOf(weights, 0), options)).rejects.toThrow(ProtocolError)
})

test('is closed once it is banned, and asks nothing more', async () => {
  const { source, client, clock, count } = openSource()
  client.answer = () => ({ type: 'failing', why: 'it answered 500' })
  await source.fetchChunk(chunkOf(weights, 0), options).catch(() => undefined)
  source.ban(new Error('a bad chunk'))
  expect(source.closed.aborted).toBe(true)
  await clock.advance(minute)
  expect(count(weights)).toBe(0)
  await expect(source.fetchChunk(chunkOf(weights, 0), options)).rejects.toThrow(UnavailableError)
  expect(client.asked.length).toBe(1)
})
