/** Where a web seed on the public internet may lead, in a network namespace: no packet leaves this machine. */

import { execFile, execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { openScratchFolder } from '../support/scratch-folder.ts'

const run = promisify(execFile)
const setUp = [
  'ip link set lo up',
  ...['8.8.8.8', '9.9.9.9', '10.1.2.3'].map(address => `ip addr add ${address}/32 dev lo`),
].join(' && ')

function isPossible(): boolean {
  try {
    execFileSync('unshare', ['-rn', 'sh', '-c', setUp], { stdio: 'ignore' })
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

describe.skipIf(!isPossible())('a web seed on the public internet', () => {
  let results: Readonly<Record<string, string>> = {}

  beforeAll(async () => {
    await using scratch = await openScratchFolder()
    const [key, certificate] = [scratch.file('key.pem'), scratch.file('certificate.pem')]
    const hosts = ['mirror.test', 'cdn.test', 'home.test'].map(name => `DNS:${name}`)
    const alternatives = `subjectAltName=${[...hosts, 'IP:127.0.0.1'].join(',')}`
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    const named = ['-nodes', '-days', '2', '-subj', '/CN=test', '-addext', alternatives]
    await run('openssl', [...request, ...named, '-keyout', key, '-out', certificate])
    const script = join(import.meta.dirname, '../support/public-web.ts')
    const words = [process.execPath, script, key, certificate].map(word => `'${word}'`)
    const { stdout } = await run('unshare', [
      '-rn',
      'sh',
      '-c',
      `${setUp} && exec ${words.join(' ')}`,
    ])
    results = JSON.parse(stdout) as typeof results
  })

  test('serves by https, and may redirect to another public host', () => {
    expect(results['']).toBe('1000 bytes by 8.8.8.8')
    expect(results['cdn/']).toBe('1000 bytes by 8.8.8.8 9.9.9.9')
  })

  test.for(['literal/', 'spelled/', 'mapped/', 'home/'])(
    'does not lead inside by %s, even where private hosts are allowed',
    path => {
      for (const how of [path, `${path} allowed`]) {
        expect(results[how]).toMatch(/^PROTOCOL: .* leads to a private address: .* by 8\.8\.8\.8$/u)
      }
    },
  )

  test('does not lead inside by way of another host', () => {
    const way = / leads to a private address: .* by 8\.8\.8\.8 9\.9\.9\.9$/u
    expect(results['twice/']).toMatch(way)
    expect(results['twice/ allowed']).toMatch(way)
  })

  test('does not lead to plain http', () => {
    const refused = 'PROTOCOL: it redirects to http://cdn.test, which is not https by 8.8.8.8'
    expect(results['plain/']).toBe(refused)
    expect(results['plain/ allowed']).toBe(refused)
  })

  test('does not lead on and on', () => {
    const refused = 'PROTOCOL: it redirects more than 3 times by 8.8.8.8 8.8.8.8 8.8.8.8 8.8.8.8'
    expect(results['loop/']).toBe(refused)
  })

  test('has a certificate of its name', () => {
    expect(results['wrong name']).toMatch(/^UNAVAILABLE: it cannot be reached: Hostname/u)
  })

  test('is not asked by http', () => {
    expect(results['mirror by http']).toBe(
      'PROTOCOL: mirror.test is public and asked for by http: write https:// by ',
    )
  })

  test('is for the operator to allow when it is at home, and may then be http and lead out', () => {
    expect(results['home']).toMatch(/^PROTOCOL: home.test leads to a private address: .* by $/u)
    expect(results['home allowed']).toBe('1000 bytes by 10.1.2.3')
    expect(results['home by http']).toBe('1000 bytes by 10.1.2.3')
    expect(results['home to the net']).toBe('1000 bytes by 10.1.2.3 9.9.9.9')
    expect(results['home to home']).toBe('1000 bytes by 10.1.2.3 10.1.2.3')
  })
})
