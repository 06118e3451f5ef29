import { join } from 'node:path'
import { expect, test } from 'vitest'
import { homePaths, socketFolder } from '../../../src/api/home.ts'

test('is the same home for every spelling of its path', () => {
  expect(homePaths('/a/b/../home/').socket).toBe(homePaths('/a/home').socket)
  expect(homePaths('rel').home).toBe(join(process.cwd(), 'rel'))
})

test('keeps the socket in the home', () => {
  const paths = homePaths('/a/home')
  expect(paths.socket).toBe('/a/home/control.sock')
  expect(socketFolder(paths)).toBeUndefined()
})

test('moves the socket of a home too deep for a socket address to a folder of its own', () => {
  const deep = homePaths(`/a/${'deep/'.repeat(30)}home`)
  const other = homePaths(`/a/${'deep/'.repeat(31)}home`)
  expect(Buffer.byteLength(deep.socket)).toBeLessThanOrEqual(103)
  expect(deep.socket).not.toBe(other.socket)
  expect(socketFolder(deep)).toBe(join(deep.socket, '..'))
})
