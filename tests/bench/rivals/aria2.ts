/** aria2 on BitTorrent: plain TCP, 1 MiB pieces checked by SHA-1, written to the final file. */

import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand, watchUse } from '../use.ts'
import { answering, freePort, onPath, type Rival, startServer } from './rival.ts'
import { makeTorrent, startTracker } from './torrent.ts'

const quiet = ['--no-conf', '--quiet', '--enable-dht=false', '--enable-dht6=false']
const local = ['--bt-enable-lpd=false', '--disable-ipv6', '--enable-peer-exchange=false']

export const aria2: Rival = {
  name: 'aria2 BitTorrent',
  missing: () => Promise.resolve(onPath('aria2c') ? undefined : 'no aria2c here (apt: aria2)'),
  async prepare({ folder, modelFolder, file }) {
    await using parts = new AsyncDisposableStack()
    const [seederPort, leecherPort] = [await freePort(), await freePort()]
    const tracker = parts.use(await startTracker(seederPort))
    const torrent = join(folder, 'aria2.torrent')
    await makeTorrent(file, torrent, tracker.url)
    const args = [...quiet, ...local, '--file-allocation=none', torrent]
    const seeder = parts.use(
      startServer('aria2c', [
        '--seed-ratio=0',
        '--check-integrity=true',
        `--listen-port=${seederPort}`,
        `--dir=${modelFolder}`,
        ...args,
      ]),
    )
    await answering(seederPort)
    const target = join(folder, 'aria2')
    const owned = parts.move()
    return {
      async run() {
        await mkdir(target)
        const server = watchUse([seeder.pid])
        const leecher = await runCommand('aria2c', [
          '--seed-time=0',
          `--listen-port=${leecherPort}`,
          `--dir=${target}`,
          ...args,
        ])
        const used = server.stop()
        await rm(target, { recursive: true })
        return { seconds: leecher.seconds, leecher, seeder: used }
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  },
}
