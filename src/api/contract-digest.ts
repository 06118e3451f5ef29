/**
 * Which contract a daemon or a command was built with: a digest of all routes and schemas. It changes with
 * every field, so nobody has to remember to raise a number. It takes 15 ms to compute, which a daemon
 * spends once and a command only when something was not understood.
 */

import { createHash } from 'node:crypto'
import { z } from 'zod'
import * as api from './contract.ts'

/** Tells contracts apart; forging one gains nothing. */
const digestCharacters = 16

/** Names the contract of a daemon in its responses. */
export const contractHeader = 'commonweight-contract'

export function contractDigest(contract: object = api): string {
  // `any` for what JSON Schema has no word for: whether a text was trimmed is not what differs.
  const schemas = Object.entries(contract)
    .filter((entry): entry is [string, z.ZodType] => entry[1] instanceof z.ZodType)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, schema]) => [
      name,
      z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }),
    ])
  const text = JSON.stringify([api.routes, schemas])
  return createHash('sha256').update(text).digest('hex').slice(0, digestCharacters)
}
