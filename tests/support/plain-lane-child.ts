/** A thread of the data plane whose lanes are bare TCP. */

import { runCrew } from '../../src/bulk/crew-thread.ts'
import { dialPlain } from './plain-lane.ts'

runCrew(dialPlain)
