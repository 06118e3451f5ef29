/** Nodes with public addresses, in a network namespace of their own: no packet leaves this machine. */

import { execFile, execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const setUp = [
  'ip link set lo up',
  ...['8.8.8.8', '9.9.9.9', '10.1.2.3'].map(address => `ip addr add ${address}/32 dev lo`),
].join(' && ')

interface Result {
  readonly found: Readonly<Record<string, string[]>>
  readonly modes: string[]
  readonly homeTells: string[]
  readonly heard: string[]
}

function isPossible(): boolean {
  try {
    execFileSync('unshare', ['-rn', 'sh', '-c', setUp], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test.skipIf(!isPossible())(
  'the first public node serves and relays at once, and no private address gets outside',
  async () => {
    const script = join(import.meta.dirname, '../support/public-network.ts')
    const command = `${setUp} && exec '${process.execPath}' '${script}'`
    const { stdout } = await promisify(execFile)('unshare', ['-rn', 'sh', '-c', command], {
      timeout: 100_000,
    })
    const result = JSON.parse(stdout) as Result
    expect(result.modes).toEqual(['server', 'server', 'client'])
    expect(result.found['b']).toEqual(['/ip4/9.9.9.9/tcp/4012'])
    expect(result.found['a']).toContain('/ip4/8.8.8.8/tcp/4011')
    const relayed = /^\/ip4\/(?:8\.8\.8\.8|9\.9\.9\.9)\/tcp\/4011\/p2p\/\w+\/p2p-circuit\//
    expect(result.homeTells.length).toBeGreaterThan(0)
    expect(result.homeTells.filter(address => !relayed.test(address))).toEqual([])
    const inside = /\/ip4\/(?:10\.|127\.)/
    const told = [...Object.values(result.found).flat(), ...result.heard]
    expect(told.filter(address => inside.test(address))).toEqual([])
  },
)
