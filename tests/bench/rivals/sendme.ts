/** sendme, the file transfer of iroh: QUIC and BLAKE3, direct addresses, no relay. */

import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand, watchUse } from '../use.ts'
import { lineOf, programsFolder, type Rival, startServer } from './rival.ts'

const sendme = join(programsFolder, 'sendme', 'bin', 'sendme')
const direct = ['--relay', 'disabled', '--no-progress']

export const iroh: Rival = {
  name: 'iroh, sendme',
  missing: () =>
    Promise.resolve(existsSync(sendme) ? undefined : `no ${sendme} (docs/benchmarks.md builds it)`),
  async prepare({ folder, file }) {
    const cwd = join(folder, 'sendme-sender')
    await mkdir(cwd)
    const args = ['send', ...direct, '--ticket-type', 'addresses', file]
    const seeder = startServer(sendme, args, { cwd, stdout: 'pipe' })
    // It prints the command for the other side: the ticket is its last word.
    const ticket = await lineOf(seeder, /sendme receive (\S+)/)
    return {
      async run() {
        const target = join(folder, 'sendme-receiver')
        await mkdir(target)
        const server = watchUse([seeder.pid])
        const leecher = await runCommand(sendme, ['receive', ...direct, ticket], { cwd: target })
        const used = server.stop()
        await rm(target, { recursive: true })
        return { seconds: leecher.seconds, leecher, seeder: used }
      },
      [Symbol.asyncDispose]: () => seeder[Symbol.asyncDispose](),
    }
  },
}
