/** docs/spec/limits.md tells the truth: each row names a constant of the source with its value. */

import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/spec/limits.md'), 'utf8')
const rows = Array.from(
  page.matchAll(/^\| `(\w+)` \| `([^`]+)` \| `([^`]+)` \| .+ \|$/gmu),
  match => ({
    name: match[1] ?? '',
    value: match[2] ?? '',
    file: match[3] ?? '',
  }),
)

test.for(rows)('$name of $file is $value', ({ name, value, file }) => {
  const path = join(root, file)
  expect(existsSync(path), `${file} is gone: update docs/spec/limits.md`).toBe(true)
  const source = readFileSync(path, 'utf8')
  const found = new RegExp(`^(?:export )?const ${name} = (.+)$`, 'mu').exec(source)
  expect(found?.[1]).toBe(value)
})

test('every bound that the formats and the wire export is on the page', () => {
  const files = globSync('src/{core,dag,formats,manifest,wire}/*.ts', { cwd: root })
  const bounds = files.flatMap(file =>
    Array.from(
      readFileSync(join(root, file), 'utf8').matchAll(/^export const (\w+Max) = /gmu),
      match => `${match[1]} ${file}`,
    ),
  )
  const listed = new Set(rows.map(({ name, file }) => `${name} ${file}`))
  expect(bounds.length).toBeGreaterThan(20)
  expect(bounds.filter(bound => !listed.has(bound))).toEqual([])
})
