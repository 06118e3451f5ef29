/** Runs a LaneCrew in the worker thread that calls this, for whatever dials its lanes. */

import { parentPort } from 'node:worker_threads'
import type { ToThread } from './jobs.ts'
import { type DialLane, LaneCrew } from './lane-crew.ts'

export function runCrew(dial: DialLane): void {
  const port = parentPort
  if (port === null) throw new Error('a lane crew runs in a worker thread only')
  const crew = new LaneCrew({ dial, post: messages => port.postMessage(messages) })
  port.on('message', (messages: readonly ToThread[]) => {
    for (const message of messages) {
      if (message.kind === 'stop') void crew.stop().finally(() => port.close())
      else crew.take(message)
    }
  })
}
