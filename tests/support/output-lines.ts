/** What each line of `--json` output must look like: the contract's schemas, and those of lines that only the CLI makes. */

import { z } from 'zod'
import { adoptedSchema, adoptionSchema } from '../../src/api/adoption.ts'
import {
  configEntrySchema,
  connectedSchema,
  errorBodySchema,
  fileSchema,
  limitsSchema,
  linkSchema,
  modelSchema,
  namedSchema,
  noticeSchema,
  operationSummarySchema,
  peerSchema,
  progressSchema,
  providerSchema,
  pulledSchema,
  removedSchema,
  seededSchema,
  statusSchema,
  verifiedSchema,
} from '../../src/api/contract.ts'
import { importedSchema, mirroredSchema, sourceSchema } from '../../src/api/mirror-contract.ts'
import type { Line } from './machine.ts'

const count = z.number().int().nonnegative()
const hex = z.string().regex(/^[0-9a-f]{64}$/)
const manifest = z.string().startsWith('bafyrei')
const root = z.string().startsWith('baf')

const operationSchema = z.strictObject({
  type: z.literal('operation'),
  id: z.uuid(),
  attached: z.boolean(),
})
/** Of `id`: no place and no state, because nothing is held. */
const hashedSchema = z.strictObject({
  type: z.literal('file'),
  path: z.string(),
  size: count,
  sha256: hex,
  root,
  chunks: count,
})

const schemas: Readonly<Record<string, z.ZodType>> = {
  adopted: adoptedSchema,
  adoption: adoptionSchema,
  config: configEntrySchema,
  connected: connectedSchema,
  detached: z.strictObject({ type: z.literal('detached'), id: z.uuid() }),
  done: z.strictObject({ type: z.literal('done'), providers: count, milliseconds: count }),
  environment: z.strictObject({
    type: z.literal('environment'),
    variables: z.record(z.string().regex(/^[A-Z_]+$/), z.string()),
  }),
  error: errorBodySchema,
  file: z.union([fileSchema.extend({ sha256: hex, root }), hashedSchema]),
  limits: limitsSchema,
  link: linkSchema,
  manifest: z.strictObject({ type: z.literal('manifest'), manifest, files: count, bytes: count }),
  imported: importedSchema.extend({ manifest }),
  mirrored: mirroredSchema.extend({ manifest }),
  model: modelSchema.extend({ manifest }),
  named: namedSchema.extend({ manifest }),
  notice: noticeSchema,
  operation: z.union([operationSummarySchema, operationSchema]),
  peer: peerSchema,
  progress: progressSchema,
  provider: providerSchema,
  pulled: pulledSchema.extend({ manifest }),
  ready: z.strictObject({
    type: z.literal('ready'),
    peerId: z.string(),
    addresses: z.array(z.string()),
  }),
  removed: removedSchema,
  seeded: seededSchema.extend({ manifest }),
  setting: configEntrySchema.extend({
    running: configEntrySchema.pick({ value: true, source: true, from: true }).optional(),
  }),
  source: sourceSchema,
  status: statusSchema,
  stopped: z.strictObject({ type: z.literal('stopped'), pid: count.nullable() }),
  verified: verifiedSchema,
}

/** Throws when the line is none of the contract's. */
export function checkLine(line: Line): void {
  const schema = schemas[line.type]
  if (schema === undefined) throw new Error(`a line of unknown type: ${JSON.stringify(line)}`)
  const { error } = schema.safeParse(line)
  if (error === undefined) return
  throw new Error(`not as the contract says: ${JSON.stringify(line)}\n${z.prettifyError(error)}`)
}
