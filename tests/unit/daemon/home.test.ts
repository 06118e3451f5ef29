/** The home is private, has one daemon at a time, and forgets a dead one. */

import { chmod, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { expect, test, vi } from 'vitest'
import { clearSocket, lockHome, prepareHome, untilGone } from '../../../daemon/home.ts'
import { homePaths, readPid } from '../../../src/api/home.ts'
import { ConflictError, StorageError } from '../../../src/core/errors.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8)
}

test('makes a home and everything in it readable by its owner only, whatever the umask', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.file('deep/home'))
  const umask = process.umask(0)
  try {
    await prepareHome(paths)
    await using _ = await lockHome(paths)
    expect(await modeOf(paths.home)).toBe('700')
    expect(await modeOf(paths.lock)).toBe('600')
    expect(await modeOf(paths.pid)).toBe('600')
  } finally {
    process.umask(umask)
  }
})

test.for(['750', '701', '755', '777'])(
  'refuses a home of mode %s and says how to mend it',
  async mode => {
    await using scratch = await openScratchFolder()
    const paths = homePaths(scratch.file('home'))
    await mkdir(paths.home)
    await chmod(paths.home, Number.parseInt(mode, 8))
    const error: unknown = await prepareHome(paths).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(StorageError)
    expect(error).toMatchObject({
      message: expect.stringContaining(mode) as string,
      hint: `chmod 700 ${paths.home}`,
    })
    expect(await modeOf(paths.home)).toBe(mode)
  },
)

test('refuses a home that is a file, and one below a file', async () => {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('home'), '')
  await expect(prepareHome(homePaths(scratch.file('home')))).rejects.toThrow(StorageError)
  await expect(prepareHome(homePaths(scratch.file('home/below')))).rejects.toThrow(StorageError)
})

test('takes a home that its owner put elsewhere by a link', async () => {
  await using scratch = await openScratchFolder()
  await mkdir(scratch.file('disk'), { mode: 0o700 })
  await symlink(scratch.file('disk'), scratch.file('home'))
  await expect(prepareHome(homePaths(scratch.file('home')))).resolves.toBeUndefined()
})

test('refuses a second lock in the same process and names the pid', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  {
    await using _ = await lockHome(paths)
    expect(await readPid(paths)).toBe(process.pid)
    const error: unknown = await lockHome(paths).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(ConflictError)
    expect(error).toMatchObject({ message: expect.stringContaining(String(process.pid)) as string })
  }
  expect(await readPid(paths)).toBeUndefined()
  await using _ = await lockHome(paths)
})

test('takes over what a dead daemon left, though its pid lives on in another program', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  await writeFile(paths.lock, '')
  await writeFile(paths.pid, '1\n')
  await using _ = await lockHome(paths)
  expect(await readFile(paths.pid, 'utf8')).toBe(`${process.pid}\n`)
})

test('refuses a lock file that is not ours to lock', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  await writeFile(paths.lock, 'something of the user')
  await expect(lockHome(paths)).rejects.toThrow(StorageError)
  expect(await readFile(paths.lock, 'utf8')).toBe('something of the user')
})

test("does not remove what stands in the socket's place and is no socket", async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  await clearSocket(paths)
  await writeFile(paths.socket, 'precious')
  await expect(clearSocket(paths)).rejects.toThrow('not a socket')
  expect(await readFile(paths.socket, 'utf8')).toBe('precious')
})

test.for(['', '12', 'abc\n', '-1\n', '123456789012\n'])('reads no pid from %j', async text => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  await writeFile(paths.pid, text)
  expect(await readPid(paths)).toBeUndefined()
})

test.for([
  ['deleted', (home: string) => rm(home, { recursive: true })],
  ['moved away', (home: string) => rename(home, `${home}-2`)],
  ['replaced', (home: string) => rename(home, `${home}-2`).then(() => mkdir(home))],
] as const)('notices within seconds that the home was %s', async ([, change]) => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await mkdir(home)
  const clock = new FakeClock()
  const looked = vi.spyOn(clock, 'sleep')
  const looks = (times: number): PromiseLike<void> =>
    expect.poll(() => looked.mock.calls.length).toBe(times)
  const gone = untilGone(home, clock, new AbortController().signal)
  await looks(1)
  await clock.advance(5000)
  await looks(2)
  await change(home)
  await clock.advance(5000)
  await gone
})
