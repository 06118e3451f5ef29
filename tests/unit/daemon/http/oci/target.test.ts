import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseDigest, parseRegistryTarget } from '../../../../../daemon/http/oci/target.ts'

const digest = `sha256:${'a1'.repeat(32)}`

test.for([
  ['/v2', { kind: 'root' }],
  ['/v2/?a=b', { kind: 'root' }],
  ['/v2/o/m/tags/list?n=5', { kind: 'tags', names: [{ name: 'o/m' }] }],
  ['/v2/o/m/manifests/Q8_0', { kind: 'manifest', names: [{ name: 'o/m' }], reference: 'Q8_0' }],
  [
    '/v2/library/gpt2/manifests/latest',
    {
      kind: 'manifest',
      names: [{ name: 'library/gpt2' }, { name: 'gpt2' }],
      reference: 'latest',
    },
  ],
  [
    `/v2/datasets/o/d/blobs/${encodeURIComponent(digest)}`,
    { kind: 'blob', names: [{ name: 'datasets/o/d' }], digest },
  ],
  // Names may be words of the protocol.
  [
    '/v2/manifests/blobs/manifests/tags',
    { kind: 'manifest', names: [{ name: 'manifests/blobs' }], reference: 'tags' },
  ],
  ['/v2/o/m/blobs/uploads/', { kind: 'blob', names: [{ name: 'o/m' }], digest: 'uploads' }],
  ['/v2/manifests/latest', { kind: 'none' }],
  ['/v2/_catalog', { kind: 'none' }],
  ['/v2/a b/manifests/x', { kind: 'none' }],
  ['/v2/a//manifests/x', { kind: 'none' }],
  ['/v2/m/resolve/main/x', undefined],
  ['/v2/resolve/main/manifests', undefined],
  ['/v2/m/raw/main/a/b/c', undefined],
  ['/v20/o/m/manifests/latest', undefined],
  ['/api/models/v2/o', undefined],
] as const)('%s', ([url, target]) => {
  expect(parseRegistryTarget(url)).toEqual(target)
})

test('a digest has 64 digits', () => {
  expect(parseDigest(digest)).toBe(digest.slice(7))
  expect(parseDigest(digest.replace(':', '-'))).toBe(digest.slice(7))
  for (const text of ['latest', digest.toUpperCase(), `${digest}0`, `sha512:${'0'.repeat(128)}`]) {
    expect(parseDigest(text)).toBeUndefined()
  }
})

test('whatever follows /v2/: a name of three segments at most, or none', () => {
  fc.assert(
    fc.property(
      fc.webPath(),
      fc.constantFrom('manifests/a', 'blobs/%zz', 'tags/list'),
      (path, end) => {
        const target = parseRegistryTarget(`/v2${path}/${end}`)
        const names = target !== undefined && 'names' in target ? target.names : []
        expect(names.filter(({ name }) => !/^[\w\-.]+(?:\/[\w\-.]+){0,2}$/u.test(name))).toEqual([])
      },
    ),
  )
})
