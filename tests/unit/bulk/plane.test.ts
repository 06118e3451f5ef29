import { expect, test } from 'vitest'
import { threadsFor } from '../../../src/bulk/plane.ts'

test('a core is left to the main thread, and four threads are enough anywhere', () => {
  expect([1, 2, 3, 4, 5, 64].map(threadsFor)).toEqual([1, 1, 2, 3, 4, 4])
})
