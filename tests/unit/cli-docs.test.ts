import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { cliDocs, cliDocsPath } from '../../scripts/cli-docs.ts'

test('docs/cli.md says what the program says; node scripts/cli-docs.ts writes it anew', async () => {
  expect(readFileSync(cliDocsPath, 'utf8')).toBe(await cliDocs())
})
