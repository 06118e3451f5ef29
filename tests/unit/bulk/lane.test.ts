import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { laneLimits } from '../../../src/bulk/lane.ts'
import { minute, second } from '../../../src/core/units.ts'

const spec = readFileSync(new URL('../../../docs/spec/lane.md', import.meta.url), 'utf8')

function row(limit: string): string {
  const line = spec.split('\n').find(each => each.startsWith(`| ${limit} |`))
  return line?.split('|')[2]?.trim() ?? `no row ${limit}`
}

test('the limits of the spec are those of the code', () => {
  const { handshakeMs, idleMs, perAddressMax, totalMax, perAddressPerSecondMax } = laneLimits
  expect(row('TLS handshake')).toBe(`${handshakeMs / second} s`)
  expect(row('a lane on which no byte moves, in either direction')).toBe(`${idleMs / minute} min`)
  expect(row('lanes and handshakes, from one address / in all')).toBe(
    `${perAddressMax} / ${totalMax}`,
  )
  expect(row('the same, begun in one second, from one address')).toBe(`${perAddressPerSecondMax}`)
})
