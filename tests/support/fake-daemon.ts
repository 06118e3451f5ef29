/**
 * The daemon's process around a fake node: real home, lock, socket, signals and exit code. Run as a
 * program; FAKE_NODE=hanging never finishes closing, slow takes 700 ms to open.
 */

import { setTimeout as delay } from 'node:timers/promises'
import { runDaemon } from '../../daemon/run.ts'
import { openFakeNode } from './fake-node.ts'

await runDaemon(async () => {
  const kind = process.env['FAKE_NODE']
  if (kind === 'slow') await delay(700)
  const node = openFakeNode()
  if (kind !== 'hanging') return node
  const [timer] = [setInterval(() => undefined, 1000)]
  timer.ref()
  return { ...node, [Symbol.asyncDispose]: () => new Promise<void>(() => undefined) }
})
