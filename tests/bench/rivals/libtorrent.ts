/** libtorrent, the engine of qBittorrent and Deluge, through its Python binding (the engine itself is C++). */

import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand, watchUse } from '../use.ts'
import { freePort, lineOf, onPath, type Rival, startServer } from './rival.ts'
import { makeTorrent } from './torrent.ts'

/** Debian puts its bindings where its own Python looks; another one first on PATH does not. */
const python = '/usr/bin/python3'
const script = join(import.meta.dirname, 'torrent_side.py')

export const libtorrent: Rival = {
  name: 'libtorrent',
  async missing() {
    if (!onPath('python3')) return 'no python3 here'
    return runCommand(python, ['-c', 'import libtorrent']).then(
      () => undefined,
      () => 'no libtorrent for Python here (apt: python3-libtorrent)',
    )
  },
  async prepare({ folder, modelFolder, file }) {
    const [seederPort, leecherPort] = [String(await freePort()), String(await freePort())]
    const torrent = join(folder, 'libtorrent.torrent')
    await makeTorrent(file, torrent, 'http://127.0.0.1:9/announce')
    const seeder = startServer(python, [script, 'seed', torrent, modelFolder, seederPort], {
      stdout: 'pipe',
    })
    await lineOf(seeder, /ready/)
    const target = join(folder, 'libtorrent')
    return {
      async run() {
        await mkdir(target)
        const server = watchUse([seeder.pid])
        const args = [script, 'leech', torrent, target, leecherPort, seederPort]
        const leecher = await runCommand(python, args)
        const used = server.stop()
        await rm(target, { recursive: true })
        return { seconds: leecher.seconds, leecher, seeder: used }
      },
      [Symbol.asyncDispose]: () => seeder[Symbol.asyncDispose](),
    }
  },
}
