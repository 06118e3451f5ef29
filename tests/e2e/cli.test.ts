/** The command as a user meets it: what it prints where, what it ends with, and what outlives it. */

import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'
import { ctrlC, ctrlD, hasTerminal, onTerminal } from '../support/terminal.ts'

const root = join(import.meta.dirname, '../..')
const cw = join(root, 'cw')
/** What ./cw runs once it has built; called directly, so that what is printed is the command's alone. */
const command = [process.execPath, join(root, 'dist/cli/main.js')] as const
/** Held by nobody. */
const unknown = 'bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje'

const env = {
  ...process.env,
  COMMONWEIGHT_MDNS: 'false',
  COMMONWEIGHT_LISTEN: '/ip4/127.0.0.1/tcp/0',
  COMMONWEIGHT_STORAGE_RESERVE_BYTES: '0',
  COMMONWEIGHT_STORAGE_RESERVE_FRACTION: '0',
}

interface Result {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

interface Running {
  /** Resolves when the text has been printed on either stream. */
  says(text: string): Promise<void>
  signal(name: NodeJS.Signals): void
  readonly pid: number | undefined
  readonly result: Promise<Result>
}

let scratch: ScratchFolder
let home: string

beforeAll(() => {
  execFileSync(cw, ['--version'], { stdio: 'ignore' })
})

beforeEach(async () => {
  scratch = await openScratchFolder()
  home = scratch.file('home')
})

afterEach(async () => {
  await run('stop')
  await scratch[Symbol.asyncDispose]()
})

function start(...args: string[]): Running {
  const child = spawn(command[0], [command[1], ...args], {
    env: { ...env, COMMONWEIGHT_HOME: home },
    cwd: scratch.path,
  })
  let out = ''
  let err = ''
  let waiting: (() => void)[] = []
  const heard = (): void => {
    for (const check of waiting) check()
  }
  child.stdout.on('data', (text: Buffer) => {
    out += text.toString()
    heard()
  })
  child.stderr.on('data', (text: Buffer) => {
    err += text.toString()
    heard()
  })
  child.stdin.end()
  return {
    says: text =>
      new Promise(resolve => {
        const check = (): void => {
          if (out.includes(text) || err.includes(text)) resolve()
        }
        waiting = [...waiting, check]
        check()
      }),
    signal: name => void child.kill(name),
    pid: child.pid,
    result: new Promise(resolve => {
      child.once('close', code => resolve({ code, out, err }))
    }),
  }
}

function run(...args: string[]): Promise<Result> {
  return start(...args).result
}

function lines(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
}

async function aModel(name = 'model'): Promise<string> {
  const folder = scratch.file(name)
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{"a":1}')
  await writeFile(join(folder, 'weights.bin'), Buffer.alloc(3_000_000, 'weights'))
  return folder
}

test('id prints roots and SHA-256 without a daemon, and the same manifest for a copy', async () => {
  const folder = await aModel()
  const { code, out } = await run('id', folder, '--json')
  expect(code).toBe(0)
  const [config, weights, manifest] = lines(out)
  expect(config).toMatchObject({ type: 'file', path: 'config.json', size: 7, chunks: 1 })
  const sha256 = createHash('sha256').update(await readFile(join(folder, 'weights.bin')))
  expect(weights).toMatchObject({ path: 'weights.bin', sha256: sha256.digest('hex'), chunks: 3 })
  expect(manifest).toMatchObject({ type: 'manifest', files: 2, bytes: 3_000_007 })

  await aModel('other-name')
  const copy = await run('id', 'other-name', '--json')
  expect(lines(copy.out).at(-1)).toEqual(manifest)
  expect(existsSync(home)).toBe(false)
})

test('misuse exits 2 with a hint, and no daemon is started for it', async () => {
  const { code, out, err } = await run('pul', 'x')
  expect({ code, out, err }).toEqual({
    code: 2,
    out: '',
    err: "commonweight: unknown verb 'pul'\nhint: did you mean pull?\n",
  })
  expect(existsSync(home)).toBe(false)
})

test('bad input to id ends with the code of its kind and touches nothing', async () => {
  expect(await run('id', 'nowhere')).toMatchObject({ out: '', code: expect.toBeOneOf([2, 4]) })
  await mkdir(scratch.file('empty'))
  expect(await run('id', 'empty')).toMatchObject({ code: 2, out: '' })
  const folder = await aModel()
  await symlink('/etc/passwd', join(folder, 'link'))
  const { code, err } = await run('id', folder)
  expect(code).toBe(2)
  expect(err).toContain('link')
})

test('a reader that has enough ends the command quietly', async () => {
  const folder = await aModel()
  const child = spawn('sh', ['-c', `"${cw}" id "${folder}" --json | head -n 1`], { env })
  let err = ''
  child.stderr.on('data', (text: Buffer) => (err += text.toString()))
  await new Promise(resolve => child.once('close', resolve))
  expect(err).toBe('')
})

test('a verb that needs a daemon starts one, says so, and stop ends it', async () => {
  const first = await run('ls')
  expect(first).toMatchObject({ code: 0, out: '' })
  expect(first.err).toContain(`commonweight: starting a daemon on ${home}`)
  const second = await run('status', '--json')
  expect(second.err).toBe('')
  const pid = Number(lines(second.out)[0]?.['pid'])
  expect(() => process.kill(pid, 0)).not.toThrow()
  expect(await run('stop')).toMatchObject({ code: 0, out: 'stopped\n' })
  expect(existsSync(join(home, 'daemon.pid'))).toBe(false)
  expect(await run('stop')).toMatchObject({ code: 0, out: 'no daemon is running\n' })
})

test('several commands that start a daemon at the same moment all succeed, with one daemon', async () => {
  const results = await Promise.all([1, 2, 3].map(() => run('status', '--json')))
  expect(results.map(({ code }) => code)).toEqual([0, 0, 0])
  const pids = results.map(({ out }) => lines(out)[0]?.['pid'])
  expect(new Set(pids).size).toBe(1)
})

test('a daemon that cannot start says why through the command that wanted it', async () => {
  await mkdir(home, { mode: 0o700 })
  await writeFile(join(home, 'config.toml'), 'lisen = []\n', { mode: 0o600 })
  const { code, err } = await run('ls')
  expect(code).toBe(2)
  expect(err).toContain('lisen')
  expect(err).toContain('daemon.log')
  await rm(join(home, 'config.toml'))
  await chmod(home, 0o755)
  expect(await run('ls')).toMatchObject({ code: 7 })
  await chmod(home, 0o700)
})

test('daemon runs in the process that was started, and SIGTERM ends it with 0', async () => {
  const daemon = start('daemon', '--json')
  await daemon.says('"type":"ready"')
  const [status] = lines((await run('status', '--json')).out)
  // Node replaces itself by the daemon: a supervisor's pid is the daemon's.
  expect(status?.['pid']).toBe(daemon.pid)
  const second = await run('daemon')
  expect(second.code).toBe(9)
  expect(second.err).toContain(String(daemon.pid))
  daemon.signal('SIGTERM')
  const { code, out } = await daemon.result
  expect(code).toBe(0)
  expect(lines(out)[0]).toMatchObject({ type: 'ready', peerId: status?.['peerId'] })
})

test('seed, show, link, ls, verify, pin and rm speak of the same model', async () => {
  const folder = await aModel()
  const seeded = lines((await run('seed', 'model', '--name', 'org/m', '--json')).out).at(-1)
  expect(seeded).toMatchObject({ type: 'seeded', name: 'org/m', files: 2, bytes: 3_000_007 })
  expect(await run('link', 'org/m')).toMatchObject({
    code: 0,
    out: `${String(seeded?.['link'])}\n`,
  })

  const list = await run('ls')
  expect(list.out).toMatch(/^NAME +STATE +SIZE +FILES +KEPT +MANIFEST\norg\/m +complete /)
  const [model, config] = lines((await run('show', 'org/m', '--json')).out)
  expect(model).toMatchObject({ type: 'model', path: folder, percent: 100 })
  expect(config).toMatchObject({ type: 'file', path: 'config.json', state: 'held' })

  expect(await run('verify', 'model/weights.bin')).toMatchObject({ code: 0 })
  expect(await run('unpin', 'org/m')).toMatchObject({ code: 0, out: 'unpinned org/m\n' })
  expect((await run('complete-ref')).out).toBe('org/m\n')
  expect(await run('rm', 'org/m', '--files')).toMatchObject({ code: 0 })
  expect(existsSync(join(folder, 'weights.bin'))).toBe(true)
  expect(await run('show', 'org/m')).toMatchObject({ code: 4, out: '' })
})

test('verify names the bad bytes and exits 6, with the result as the last JSON line', async () => {
  const folder = await aModel()
  await run('seed', 'model', '--name', 'org/m')
  const bytes = await readFile(join(folder, 'weights.bin'))
  bytes[1_500_000] = 0
  await writeFile(join(folder, 'weights.bin'), bytes)
  const { code, out, err } = await run('verify', 'org/m', '--json')
  expect(code).toBe(6)
  expect(lines(out).at(-1)).toMatchObject({
    type: 'verified',
    bad: [{ path: 'weights.bin', offset: 1_048_576, length: 1_048_576 }],
  })
  expect(err).toContain('1 bad chunk in 1 file')
})

test('a model nobody has is not found within the time-out', async () => {
  const { code, out } = await run('pull', unknown, '--find-timeout', '1', '--json')
  expect(code).toBe(4)
  expect(lines(out).at(-1)).toMatchObject({ type: 'error', code: 'NOT_FOUND' })
})

test('SIGINT in a pipe cancels the operation and exits 130', async () => {
  const pull = start('pull', unknown, '--find-timeout', '60', '--json')
  await pull.says('"type":"operation"')
  pull.signal('SIGINT')
  const { code, out } = await pull.result
  expect(code).toBe(130)
  expect(lines(out).at(-1)).toMatchObject({ type: 'error', code: 'ABORTED' })
  expect(lines((await run('operations', '--json')).out)).toMatchObject([{ state: 'cancelled' }])
})

test('SIGINT with --detach leaves it running, and attach follows it to its end', async () => {
  const pull = start('pull', unknown, '--find-timeout', '4', '--detach', '--json')
  await pull.says('"type":"operation"')
  pull.signal('SIGINT')
  const { code, out } = await pull.result
  expect(code).toBe(130)
  const { id } = lines(out).at(-1) ?? {}
  expect(lines(out).at(-1)).toEqual({ type: 'detached', id: expect.any(String) })
  const attached = await run('attach', String(id).slice(0, 8), '--json')
  expect(lines(attached.out)[0]).toEqual({ type: 'operation', id, attached: true })
  expect(attached.code).toBe(4)
})

test.runIf(hasTerminal)('Ctrl-C on a terminal asks once; s stops it', async () => {
  await run('status')
  const pull = [...command, '--home', home, 'pull', unknown, '--find-timeout', '60']
  const follow = start('pull', unknown, '--find-timeout', '60', '--detach', '--json')
  await follow.says('"type":"operation"')
  const keys = [
    { after: 'following it', type: ctrlC },
    { after: '[l]eave:', type: 's\n' },
  ]
  const { code, screen } = await onTerminal(pull, { keys, env })
  expect(code).toBe(130)
  expect(screen).toContain('commonweight: stopping')
  expect(await follow.result).toMatchObject({ code: 130 })
})

test.runIf(hasTerminal)('no answer leaves it running; a second Ctrl-C stops it', async () => {
  const follow = start('pull', unknown, '--find-timeout', '60', '--json')
  await follow.says('"type":"operation"')
  const pull = [...command, '--home', home, 'pull', unknown, '--find-timeout', '60']
  const asked = { after: 'following it', type: ctrlC }
  const left = await onTerminal(pull, {
    keys: [asked, { after: '[l]eave:', type: ctrlD }],
    env,
  })
  expect(left.code).toBe(130)
  expect(left.screen).toMatch(/it goes on in the daemon; to follow it: commonweight .*attach \w+/)
  const stopped = await onTerminal(pull, {
    keys: [asked, { after: '[l]eave:', type: ctrlC }],
    env,
  })
  expect(stopped.code).toBe(130)
  expect(await follow.result).toMatchObject({ code: 130 })
})

test.runIf(hasTerminal)('a narrow terminal gets a table that fits, a pipe the whole', async () => {
  await aModel()
  await run('seed', 'model', '--name', 'sentence-transformers/all-MiniLM-L6-v2')
  const { screen } = await onTerminal([...command, '--home', home, '--no-color', 'ls'], {
    columns: 60,
    env,
  })
  for (const line of screen.split('\r\n')) expect(line.length).toBeLessThanOrEqual(60)
  expect(screen).toContain('…')
  expect((await run('ls')).out).toContain('sentence-transformers/all-MiniLM-L6-v2')
})

test('./cw is the command: through a link, from another folder, with a clean stdout', async () => {
  await symlink(cw, scratch.file('linked'))
  const inside = { cwd: scratch.path, env: { ...env, COMMONWEIGHT_HOME: home } }
  const output = execFileSync(scratch.file('linked'), ['stop', '--json'], {
    ...inside,
    stdio: 'pipe',
  })
  expect(output.toString()).toBe('{"type":"stopped","pid":null}\n')
})
