import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { runProgram } from '../../../cli/program.ts'
import { errorTable } from '../../../src/core/errors.ts'

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const stdout = new PassThrough() as unknown as NodeJS.WriteStream & PassThrough
  const stderr = new PassThrough() as unknown as NodeJS.WriteStream & PassThrough
  const code = await runProgram(argv, { stdout, stderr, env: {}, cwd: import.meta.dirname })
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') }
}

test('shows the list of verbs, and exits 0, when asked for help', async () => {
  const { code, out, err } = await run('--help')
  expect(code).toBe(0)
  expect(err).toBe('')
  for (const verb of ['seed', 'pull', 'verify', 'daemon']) expect(out).toContain(`\n  ${verb} `)
  expect(out).not.toContain('complete-ref')
})

test('without a verb shows the list on stderr and exits 2', async () => {
  const { code, out, err } = await run()
  expect(code).toBe(2)
  expect(out).toBe('')
  expect(err).toContain('Share and fetch:')
})

test('names the nearest verb and the nearest flag', async () => {
  expect(await run('pul')).toMatchObject({
    code: 2,
    err: "commonweight: unknown verb 'pul'\nhint: did you mean pull?\n",
  })
  expect(await run('pull', 'x', '--inclde', 'y')).toMatchObject({
    code: 2,
    err: "commonweight: unknown flag '--inclde'\nhint: did you mean --include?\n",
  })
  expect(await run('help', 'sed')).toMatchObject({ code: 2, out: '' })
})

test('answers a line it cannot parse in JSON when that was asked for', async () => {
  const { code, out } = await run('show', '--json')
  expect(code).toBe(2)
  expect(JSON.parse(out)).toMatchObject({ type: 'error', code: 'INVALID_INPUT' })
})

const documented = [
  'seed',
  'pull',
  'id',
  'ls',
  'show',
  'verify',
  'pin',
  'unpin',
  'rm',
  'gc',
  'peers',
]
const others = [
  'providers',
  'connect',
  'daemon',
  'status',
  'operations',
  'attach',
  'config',
  'stop',
]

test.for([...documented, ...others, 'link', 'completion', 'help'])(
  'help %s has usage, examples that parse and exit codes',
  async verb => {
    const { code, out } = await run('help', verb)
    expect(code).toBe(0)
    expect(out).toMatch(new RegExp(`^Usage: commonweight ${verb}`))
    expect(out.split('\nExamples:\n')).toHaveLength(2)
    expect(out.trimEnd()).toMatch(/\nExit codes:\n {2}0 {4}success\n[^]*130 {2}interrupted$/)
  },
)

test('documents only exit codes of the taxonomy', async () => {
  const known = new Set([0, 1, 3, 130, ...Object.values(errorTable).map(({ exit }) => exit)])
  const { out } = await run('help', 'pull')
  const end = out.slice(out.indexOf('Exit codes:'))
  const codes = [...end.matchAll(/^ {2}(\d+)/gm)].map(([, code]) => Number(code))
  expect(codes.filter(code => !known.has(code))).toEqual([])
})

test('refuses an empty home instead of taking the current folder', async () => {
  expect(await run('--home', '', 'ls')).toMatchObject({
    code: 2,
    err: 'commonweight: --home needs a folder\n',
  })
})

test('refuses a time-out that is no number of seconds', async () => {
  const { code, err } = await run('pull', 'x', '--find-timeout', 'soon')
  expect(code).toBe(2)
  expect(err).toContain('number of seconds')
})

test('prints a completion script for a shell, and names the shells it knows', async () => {
  const { code, out } = await run('completion', 'bash')
  expect(code).toBe(0)
  expect(out).toContain('complete -F _commonweight commonweight cw')
  expect(out).toContain('--find-timeout')
  expect(await run('completion', 'tcsh')).toMatchObject({
    code: 2,
    err: 'commonweight: no completion for tcsh\nhint: known: bash, zsh, fish\n',
  })
})

test('prints its version', async () => {
  expect(await run('--version')).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+/) })
})
