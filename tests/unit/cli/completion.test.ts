import { execFileSync, spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import { expect, test } from 'vitest'
import { completionScript, type Shell, shells } from '../../../cli/completion.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

function aProgram(): Command {
  const program = new Command('commonweight').option('--home <DIR>', "the node's folder [a]: x")
  program.option('--json', 'JSON').helpCommand(false)
  program
    .command('pull')
    .summary("fetch a model; isn't it")
    .argument('<REF>')
    .option('--to <DIR>', 'folder')
    .option('--peer <MULTIADDR>', 'who to ask')
    .addOption(new Option('--order <ORDER>', 'which first').choices(['rarest', 'sequential']))
  program.command('seed').summary('share').argument('<PATH...>')
  program.command('verify').summary('hash again').argument('[REF|PATH]')
  program.command('completion').summary('this').argument('<SHELL>')
  program.command('secret', { hidden: true }).summary('not shown')
  return program
}

function has(shell: string): boolean {
  return spawnSync(shell, ['--version']).error === undefined
}

const parseOnly: Record<Shell, string> = { bash: '-n', zsh: '-n', fish: '--no-execute' }

test.for(shells)('makes a script that %s can parse', async (shell, { skip }) => {
  if (!has(shell)) skip(`${shell} is not installed`)
  await using folder = await openScratchFolder()
  const script = folder.file('script')
  await writeFile(script, completionScript(aProgram(), shell))
  const { status, stderr } = spawnSync(shell, [parseOnly[shell], script])
  expect(stderr.toString()).toBe('')
  expect(status).toBe(0)
})

test.for(shells)('names every verb and flag for %s, and no hidden verb', shell => {
  const script = completionScript(aProgram(), shell)
  for (const word of ['pull', 'seed', 'verify', 'home', 'json', 'peer', 'to']) {
    expect(script).toContain(word)
  }
  expect(script).not.toContain('secret')
})

/** What bash would offer for the words, the last of them unfinished. */
function offered(...words: string[]): string[] {
  const script = `${completionScript(aProgram(), 'bash')}
commonweight() { [[ $1 == complete-ref ]] && printf '%s\\n' org/one org/two; }
COMP_WORDS=(${words.map(word => `'${word}'`).join(' ')})
COMP_CWORD=${words.length - 1}
_commonweight
printf '%s\\n' "\${COMPREPLY[@]}"`
  const output = execFileSync('bash', ['-c', script], { cwd: import.meta.dirname })
  return output.toString().split('\n').filter(Boolean)
}

test.runIf(has('bash'))('offers what fits: verbs, flags, models, files, shells', () => {
  expect(offered('commonweight', '')).toEqual(['pull', 'seed', 'verify', 'completion'])
  expect(offered('commonweight', 'pu')).toEqual(['pull'])
  expect(offered('commonweight', 'pull', '--')).toEqual([
    '--to',
    '--peer',
    '--order',
    '--help',
    '--home',
    '--json',
    '--help',
  ])
  expect(offered('commonweight', 'pull', 'org/t')).toEqual(['org/two'])
  expect(offered('commonweight', '--home', '/x', 'pull', '')).toEqual(['org/one', 'org/two'])
  expect(offered('commonweight', 'seed', 'completion.')).toEqual(['completion.test.ts'])
  expect(offered('commonweight', 'pull', '--peer', '')).toEqual([])
  expect(offered('commonweight', 'pull', '--order', '')).toEqual(['rarest', 'sequential'])
  expect(offered('commonweight', 'completion', 'z')).toEqual(['zsh'])
})
