/**
 * The daemon's process around a fake node: real home, lock, socket, signals and exit code. Run as a
 * program; FAKE_NODE=hanging never finishes closing, slow opens only when SIGTERM has come.
 */

import { once } from 'node:events'
import { runDaemon } from '../../daemon/run.ts'
import { openFakeNode } from './fake-node.ts'

const kind = process.env['FAKE_NODE']
/** Listened for from the start: it may come between the pid in the lock and the opening. */
const signalled = kind === 'slow' ? once(process, 'SIGTERM') : undefined

await runDaemon(async () => {
  if (signalled !== undefined) {
    // Waiting for a signal keeps no process alive.
    const alive = setInterval(() => undefined, 1000)
    await signalled
    clearInterval(alive)
  }
  const node = openFakeNode()
  if (kind !== 'hanging') return node
  const [timer] = [setInterval(() => undefined, 1000)]
  timer.ref()
  return { ...node, [Symbol.asyncDispose]: () => new Promise<void>(() => undefined) }
})
