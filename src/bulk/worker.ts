/** The entry of a data-plane thread: a crew whose lanes are TLS. */

import { workerData } from 'node:worker_threads'
import type { LaneIdentity } from './certificate.ts'
import { runCrew } from './crew-thread.ts'
import { dialLane } from './lane.ts'

const { identity } = workerData as { readonly identity: LaneIdentity }

runCrew((address, options) => dialLane(address, { ...options, identity }))
