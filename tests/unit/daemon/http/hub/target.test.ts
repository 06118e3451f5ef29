import { expect, test } from 'vitest'
import { parseTarget, splitRevision } from '../../../../../daemon/http/hub/target.ts'

const repo = (...readings: [name: string, verb: string, ...rest: string[]][]): object => ({
  kind: 'repo',
  readings: readings.map(([name, verb, ...rest]) => ({ name, verb, rest })),
})

test.for<[string, object]>([
  ['/org/model/resolve/main/config.json', repo(['org/model', 'resolve', 'main', 'config.json'])],
  ['/org/model/raw/main/a/b?x=1', repo(['org/model', 'raw', 'main', 'a', 'b'])],
  ['/gpt2/resolve/main/config.json', repo(['gpt2', 'resolve', 'main', 'config.json'])],
  [
    '/org/model/resolve/refs%2Fpr%2F1/sub%20dir/odd%20%231%3Fname%25.json',
    repo(['org/model', 'resolve', 'refs/pr/1', 'sub dir', 'odd #1?name%.json']),
  ],
  ['/datasets/org/data/resolve/main/a', repo(['datasets/org/data', 'resolve', 'main', 'a'])],
  ['/models/resolve/main/a', repo(['models', 'resolve', 'main', 'a'])],
  [
    '/org/resolve/resolve/main/x',
    repo(['org/resolve', 'resolve', 'main', 'x'], ['org', 'resolve', 'resolve', 'main', 'x']),
  ],
  ['/api/models/org/model', repo(['org/model', 'info'])],
  ['/api/models/gpt2/refs', repo(['gpt2/refs', 'info'], ['gpt2', 'refs'])],
  [
    '/api/models/org/model/tree/main/a%2Fb?recursive=true',
    repo(['org/model', 'tree', 'main', 'a/b']),
  ],
  ['/api/models/org/model/tree/main/', repo(['org/model', 'tree', 'main'])],
  ['/api/datasets/org/data/revision/main', repo(['datasets/org/data', 'revision', 'main'])],
  [
    '/api/resolve-cache/models/org/model/abc/f',
    repo(['org/model', 'resolve', 'abc', 'f'], ['org', 'resolve', 'model', 'abc', 'f']),
  ],
  ['/api/models?search=x', { kind: 'list', type: 'models' }],
  ['/api/agent-harnesses', { kind: 'agent-harnesses' }],
  ['/api/telemetry/hf/download', { kind: 'telemetry' }],
  ['/api/whoami-v2', { kind: 'whoami' }],
  ['/', { kind: 'none' }],
  ['/favicon.ico', { kind: 'none' }],
  ['/org/model', { kind: 'none' }],
  ['/api/quota', { kind: 'none' }],
])('reads %s', ([url, target]) => {
  expect(parseTarget(url)).toEqual(target)
})

test.for(['/org/model/resolve/main/%ff', '/%', `/${'a/'.repeat(60)}`])('refuses %s', url => {
  expect(() => parseTarget(url)).toThrow(/a path/)
})

test('takes the longest revision that is known', () => {
  const known = new Set(['main', 'refs/heads/main'])
  const split = (...rest: string[]): unknown => splitRevision(rest, text => known.has(text))
  expect(split('refs', 'heads', 'main', 'a', 'b')).toEqual({
    revision: 'refs/heads/main',
    path: 'a/b',
  })
  expect(split('refs/heads/main')).toEqual({ revision: 'refs/heads/main', path: '' })
  expect(split('main', 'a/b')).toEqual({ revision: 'main', path: 'a/b' })
  expect(split('dev', 'a')).toBeUndefined()
  expect(split()).toBeUndefined()
})

test('what follows the address of Xet names a repository, and a repository may be called as that address', () => {
  const readings = (url: string): unknown => {
    const target = parseTarget(url)
    return target.kind === 'repo' ? target.readings : target.kind
  }
  expect(readings('/cas/models/org/m/v2/reconstructions/ab')).toEqual([
    { name: 'org/m', verb: 'cas', rest: ['v2', 'reconstructions', 'ab'] },
  ])
  expect(readings('/cas/datasets/d/xorbs/ab/0')).toEqual([
    { name: 'datasets/d', verb: 'cas', rest: ['xorbs', 'ab', '0'] },
  ])
  expect(readings('/cas/models/resolve/main/a.bin')).toEqual([
    { name: 'cas/models', verb: 'resolve', rest: ['main', 'a.bin'] },
  ])
  expect(readings('/cas/models/org/m/v3')).toBe('none')
})
