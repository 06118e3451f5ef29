import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { runtimeFlags, startFlags, tuneForBulkBytes } from '../../../src/core/v8-flags.ts'

test('sets every flag and says which were taken', () => {
  const set: string[] = []
  expect(tuneForBulkBytes([], flag => set.push(flag))).toEqual(runtimeFlags)
  expect(set).toEqual(runtimeFlags)
})

test('leaves a process alone that was started with its flags', () => {
  const set: string[] = []
  expect(tuneForBulkBytes(startFlags, flag => set.push(flag))).toEqual([])
  expect(set).toEqual([])
})

test('a flag that V8 no longer knows is left out, the others are set', () => {
  const taken = tuneForBulkBytes([], flag => {
    if (flag === runtimeFlags[0]) throw new Error('unknown flag')
  })
  expect(taken).toEqual(runtimeFlags.slice(1))
})

test('this Node knows the flags', () => {
  const options = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })
  for (const flag of [...startFlags, ...runtimeFlags]) {
    expect(options).toContain(`${flag.replace(/=.*/u, '')} `)
  }
})
