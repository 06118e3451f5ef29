import { expect, test } from 'vitest'
import { describe } from '../../../../cli/commands/status.ts'
import type { StatusView } from '../../../../src/api/contract.ts'

const view: StatusView = {
  type: 'status',
  version: '1.2.3',
  apiVersion: 1,
  pid: 7,
  home: '/home/ada/.commonweight',
  peerId: 'peer',
  addresses: [],
  gateway: 'http://127.0.0.1:4080',
  startedAtMs: 0,
  models: 0,
  bytesHeld: 0,
  connections: 0,
  dht: { mode: 'client', peers: 0 },
  announcing: { keys: 0, due: 0, lastAtMs: null },
  watched: [],
  memory: { rssBytes: 0 },
  warnings: [],
  operations: [],
}

test('says where other programs find the models, or that they cannot', () => {
  const lineOf = (gateway: string | null): unknown =>
    Object.fromEntries(describe({ ...view, gateway }, 0))['gateway']
  expect(lineOf('http://127.0.0.1:4080')).toBe('http://127.0.0.1:4080')
  expect(lineOf(null)).toBe('off')
})
