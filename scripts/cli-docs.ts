/**
 * Writes docs/cli.md from the program's own help, so that it never lies; tests/unit/cli-docs.test.ts
 * fails when it is out of date.
 *
 *   node scripts/cli-docs.ts
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { runProgram } from '../cli/program.ts'

export const cliDocsPath = join(import.meta.dirname, '../docs/cli.md')

const intro = `# The command line

Generated from the program by \`node scripts/cli-docs.ts\`; \`commonweight help\` prints the same pages.

Results go to stdout, everything else to stderr. With \`--json\` stdout carries one object per line, each
with a \`type\`; the last line is the result, or an object of type \`error\` with \`code\`, \`message\` and, when
something can be done, \`hint\`. Long operations print objects of type \`operation\` (its id, for
\`commonweight attach\`), \`progress\` and \`notice\` before. Progress is a bar on a terminal, a line every few
seconds in a pipe, and nothing with \`--quiet\`.

Ctrl-C during \`seed\`, \`pull\` or \`verify\` asks once, on a terminal, whether to stop the operation or to leave
it running in the daemon; a second Ctrl-C stops it. With \`--detach\` it is left running without asking. In a
pipe Ctrl-C (SIGINT) and SIGTERM stop it unless \`--detach\` was given. Either way the exit code is 130.
`

/** The whole page. */
export async function cliDocs(): Promise<string> {
  const overview = await helpOf([])
  const verbs = [...overview.matchAll(/^ {2}([a-z][a-z-]+) {2}/gm)].map(([, verb]) => verb ?? '')
  const sections = [intro, fenced(overview)]
  for (const verb of verbs) sections.push(`## ${verb}\n\n${fenced(await helpOf([verb]))}`)
  return `${sections.join('\n')}`
}

async function helpOf(words: readonly string[]): Promise<string> {
  const stdout = new PassThrough() as unknown as NodeJS.WriteStream & PassThrough
  const { stderr } = process
  await runProgram(['help', ...words], { stdout, stderr, env: {}, cwd: '/' })
  return String(stdout.read())
}

function fenced(text: string): string {
  return `\`\`\`text\n${text.trimEnd()}\n\`\`\`\n`
}

if (import.meta.main) writeFileSync(cliDocsPath, await cliDocs())
