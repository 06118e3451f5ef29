import { expect, test } from 'vitest'
import { lanelessLines } from '../../../../cli/commands/peers.ts'

test('says why chunks come without a lane, each reason once', () => {
  const views = [
    { path: 'lane' as const, pathReason: null },
    { path: 'none' as const, pathReason: null },
    { path: 'stream' as const, pathReason: 'the peer has no lanes' },
    { path: 'stream' as const, pathReason: 'a lane is being opened' },
    { path: 'stream' as const, pathReason: 'the peer has no lanes' },
  ]
  expect(lanelessLines(views)).toEqual([
    '2 peers without a lane: the peer has no lanes',
    'one peer without a lane: a lane is being opened',
  ])
  expect(lanelessLines([])).toEqual([])
})
