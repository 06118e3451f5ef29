/** The daemon's entry: V8 is told what it is for before anything grows, then daemon/run.ts runs it. */

import { tuneForBulkBytes } from '../src/core/v8-flags.ts'
import { openNode } from '../src/node.ts'
import { runDaemon } from './run.ts'

tuneForBulkBytes(process.execArgv)
await runDaemon(openNode)
