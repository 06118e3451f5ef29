import { expect, test } from 'vitest'
import { rawCid } from '../../../src/core/cid.ts'
import { NotFoundError, UnavailableError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { second } from '../../../src/core/units.ts'
import { askSources } from '../../../src/transfer/ask-sources.ts'
import type { FindOptions, SourceFinder } from '../../../src/transfer/source.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { FakeSource } from '../../support/fake-source.ts'

/** What asking for something that nobody has ends with, and what it told on the way. */
async function askInVain(find: (options: FindOptions) => ReturnType<SourceFinder['find']>) {
  const clock = new FakeClock()
  const told: string[] = []
  const question = {
    what: 'the manifest X',
    keys: [rawCid(new Uint8Array(32))],
    ask: () => Promise.reject(new UnavailableError('not held')),
  }
  const asking = askSources(
    { finder: { find: (_, options) => find(options) }, clock, log: silentLog },
    question,
    {
      peers: ['A', 'B', 'C', 'D'],
      patienceMs: second,
      signal: new AbortController().signal,
      onNotice: () => undefined,
      onUnreached: (peer, reason) => void told.push(`${peer}: ${reason}`),
    },
  )
  const failed = asking.then(
    () => undefined,
    (error: unknown) => error,
  )
  await clock.advance(2 * second)
  const error = await failed
  expect(error).toBeInstanceOf(NotFoundError)
  return { error: error as NotFoundError, told }
}

test('tells at once that a given peer was not reached, and in the end why nobody was found', async () => {
  const { error, told } = await askInVain(async function* ({ onUnreached }) {
    onUnreached?.('A', 'no answer so far')
    onUnreached?.('A', 'connection refused')
    yield { type: 'round', round: 1 }
  })
  expect(told).toEqual(['A: no answer so far', 'A: connection refused'])
  expect(error.message).toBe(
    'the manifest X: no source was found; A was not reached: connection refused',
  )
  expect(error.hint).toMatch(/^compare the address/u)
})

test('blames no address of a peer that was reached later', async () => {
  const { error } = await askInVain(async function* ({ onUnreached }) {
    onUnreached?.('A', 'connection refused')
    yield { type: 'source', source: new FakeSource('A') }
  })
  expect(error.message).toBe('the manifest X: the one source found does not have it')
  expect(error.hint).toMatch(/--peer$/u)
})

test('names no more than three', async () => {
  const { error } = await askInVain(async function* ({ peers, onUnreached }) {
    for (const peer of peers) onUnreached?.(peer, 'timed out')
    yield { type: 'round', round: 1 }
  })
  expect(error.message).toContain('; C was not reached: timed out; and others were not')
  expect(error.message).not.toContain('D')
})
