/** The daemon's process in bad company: races for the home, kill -9, signals, a closing that hangs. */

import { chmod, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openClient } from '../../src/api/client.ts'
import { homePaths, readPid, socketFolder } from '../../src/api/home.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { startDaemonProcess } from '../support/daemon-process.ts'
import { aPull, someAddress, somePeer } from '../support/fake-node.ts'

test('says that it is ready, and ends with 0 at SIGTERM, leaving only the lock file', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await using daemon = startDaemonProcess(home)
  expect(JSON.parse((await daemon.ready) ?? '')).toEqual({
    type: 'ready',
    peerId: somePeer,
    addresses: [someAddress],
  })
  daemon.kill('SIGTERM')
  expect(await daemon.ended).toBe(0)
  expect(await readdir(home)).toEqual(['lock'])
})

test('lets one of eight that start at once have the home; the others end with 9 and its pid', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await using stack = new AsyncDisposableStack()
  const daemons = Array.from({ length: 8 }, () => stack.use(startDaemonProcess(home)))
  const lines = await Promise.all(daemons.map(({ ready }) => ready))
  const winners = daemons.filter((_, index) => lines[index]?.includes('"ready"'))
  expect(winners).toHaveLength(1)
  const losers = daemons.filter(daemon => daemon !== winners[0])
  expect(await Promise.all(losers.map(({ ended }) => ended))).toEqual(losers.map(() => 9))
  for (const loser of losers) expect(loser.stderr()).toMatch(/(process id \d+|another daemon)/)
  expect(await readPid(homePaths(home))).toBe(winners[0]?.pid)
  expect((await openClient(homePaths(home)).status()).pid).toBe(winners[0]?.pid)
})

test('starts at once after kill -9, again and again, and is never two', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  for (let round = 0; round < 3; round += 1) {
    await using daemon = startDaemonProcess(home)
    expect(await daemon.ready).toContain('"ready"')
    await using second = startDaemonProcess(home)
    expect(JSON.parse((await second.ready) ?? '')).toMatchObject({
      type: 'error',
      code: 'CONFLICT',
      message: expect.stringContaining(`process id ${daemon.pid}`) as string,
    })
    daemon.kill('SIGKILL')
    expect(await daemon.ended).toBe('SIGKILL')
  }
})

test('notices a daemon that lives though its lock does not hold, as on NFS', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.file('home'))
  await using daemon = startDaemonProcess(paths.home)
  await daemon.ready
  await rm(paths.lock)
  await using second = startDaemonProcess(paths.home)
  expect(await second.ended).toBe(9)
  expect((await openClient(paths).status()).pid).toBe(daemon.pid)
})

test('ends with 0 after nine seconds though its closing hangs', async () => {
  await using scratch = await openScratchFolder()
  await using daemon = startDaemonProcess(scratch.file('home'), { env: { FAKE_NODE: 'hanging' } })
  await daemon.ready
  const startedMs = performance.now()
  daemon.kill('SIGTERM')
  expect(await daemon.ended).toBe(0)
  // And what a busy machine adds.
  expect(performance.now() - startedMs).toBeLessThan(20_000)
})

test('ends at once at the second signal', async () => {
  await using scratch = await openScratchFolder()
  await using daemon = startDaemonProcess(scratch.file('home'), { env: { FAKE_NODE: 'hanging' } })
  await daemon.ready
  daemon.kill('SIGINT')
  await expect.poll(() => daemon.stderr()).toContain('stopping')
  const startedMs = performance.now()
  daemon.kill('SIGTERM')
  expect(await daemon.ended).toBe('SIGTERM')
  // Its closing would take nine.
  expect(performance.now() - startedMs).toBeLessThan(7000)
})

test('obeys a SIGTERM that comes while it is starting', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await using daemon = startDaemonProcess(home, { env: { FAKE_NODE: 'slow' } })
  await expect.poll(() => readPid(homePaths(home))).toBe(daemon.pid)
  daemon.kill('SIGTERM')
  expect(await daemon.ended).toBe(0)
  expect(await daemon.ready).toBeUndefined()
})

test('tells who follows an operation that it stops, and ends', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await using daemon = startDaemonProcess(home)
  await daemon.ready
  const events = openClient(homePaths(home)).run(aPull('ref'))[Symbol.asyncIterator]()
  expect((await events.next()).value).toMatchObject({ type: 'operation' })
  daemon.kill('SIGTERM')
  await expect(events.next()).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'the daemon is stopping',
  })
  expect(await daemon.ended).toBe(0)
})

test('survives the loss of who read its output', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await using daemon = startDaemonProcess(home, { args: ['--log-level', 'debug'] })
  await daemon.ready
  daemon.closePipes()
  const client = openClient(homePaths(home))
  // Each refusal is logged at debug, to a pipe that nobody reads any more.
  for (let count = 0; count < 3; count += 1) {
    await expect(client.model('unknown')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  }
  expect((await client.status()).pid).toBe(daemon.pid)
})

test('does not start on a home that others can read', async () => {
  await using scratch = await openScratchFolder()
  const home = scratch.file('home')
  await mkdir(home)
  await chmod(home, 0o755)
  await using daemon = startDaemonProcess(home)
  expect(await daemon.ended).toBe(7)
  expect(daemon.stderr()).toContain(`hint: chmod 700 ${home}`)
})

test('does not start with a wrong configuration, and says where it is wrong', async () => {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('config.toml'), 'mdns = true\nlisten [\n')
  await using daemon = startDaemonProcess(scratch.path)
  expect(await daemon.ended).toBe(2)
  expect(daemon.stderr()).toContain('config.toml line 2')
})

test('meets its command at a socket elsewhere when the home is too deep for one', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.file(join('deep'.repeat(20), 'home')))
  await using daemon = startDaemonProcess(paths.home)
  await daemon.ready
  expect(socketFolder(paths)).toBeDefined()
  expect((await openClient(paths).status()).home).toBe(paths.home)
})

test('trusts no socket folder that is a link somebody planted', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.file(join('deep'.repeat(21), 'home')))
  const folder = socketFolder(paths) ?? ''
  await mkdir(scratch.file('mine'), { mode: 0o700 })
  await symlink(scratch.file('mine'), folder)
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rm(folder))
  await using daemon = startDaemonProcess(paths.home)
  expect(await daemon.ended).toBe(7)
  await expect(openClient(paths).status()).rejects.toMatchObject({ code: 'STORAGE' })
})
