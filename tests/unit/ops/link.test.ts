import { expect, test } from 'vitest'
import { codecs, makeCid } from '../../../src/core/cid.ts'
import { sha256 } from '../../../src/core/digest.ts'
import { linkTo } from '../../../src/ops/link.ts'
import type { HeldModel } from '../../../src/store/store.ts'

const manifest = makeCid(codecs.dagCbor, sha256(Buffer.from('manifest')))
const model = { manifest, name: 'org/model' } as HeldModel

function linkFrom(...addresses: string[]): string {
  return linkTo({ addresses: () => addresses }, model)
}

test('names no loopback address when there is another, and two at most', () => {
  const link = linkFrom(
    '/ip4/127.0.0.1/tcp/4011',
    '/ip4/192.0.2.7/tcp/4011',
    '/ip6/::1/tcp/4011',
    '/ip4/192.0.2.8/tcp/4011',
    '/ip4/192.0.2.9/tcp/4011',
  )
  expect(link).toBe(
    `cw://${manifest.toString()}?peer=/ip4/192.0.2.7/tcp/4011&peer=/ip4/192.0.2.8/tcp/4011&name=org/model`,
  )
})

test('names loopback when it is all there is: two nodes on one machine', () => {
  expect(linkFrom('/ip4/127.0.0.1/tcp/4011')).toContain('peer=/ip4/127.0.0.1/tcp/4011')
})
