import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { exportLines } from '../../../../cli/commands/env.ts'

const variables = { HF_ENDPOINT: 'http://127.0.0.1:4080', NO_PROXY: "it's $HOME `x`" }

test('a shell that reads the lines has the values', () => {
  const script = `${exportLines(variables, 'sh')}\nprintf '%s|%s' "$HF_ENDPOINT" "$NO_PROXY"`
  expect(execFileSync('sh', ['-c', script], { encoding: 'utf8' })).toBe(
    Object.values(variables).join('|'),
  )
})

test('writes for other shells as they quote', () => {
  expect(exportLines({ A: String.raw`it's \x` }, 'fish')).toBe(String.raw`set -gx A 'it\'s \\x'`)
  expect(exportLines({ A: "it's" }, 'powershell')).toBe("$env:A = 'it''s'")
})
