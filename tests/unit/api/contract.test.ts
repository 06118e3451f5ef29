/** The examples of docs/spec/control-api.md are what the schemas say. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { z } from 'zod'
import * as api from '../../../src/api/contract.ts'

const spec = readFileSync(join(import.meta.dirname, '../../../docs/spec/control-api.md'), 'utf8')

/** Each object of the JSON examples; one may go on over lines that do not start with a brace. */
const examples = [...spec.matchAll(/```json\n([^`]*)```/g)]
  .flatMap(([, block = '']) => block.trim().split(/\n(?=\{)/))
  .map(text => JSON.parse(text) as Record<string, unknown>)

const schemas: Record<string, z.ZodType> = {
  status: api.statusSchema,
  setting: api.configEntrySchema,
  model: api.modelSchema,
  file: api.fileSchema,
  limits: api.limitsSchema,
  link: api.linkSchema,
  removed: api.removedSchema,
  peer: api.peerSchema,
  connected: api.connectedSchema,
  provider: api.providersEventSchema,
  done: api.providersEventSchema,
}

test.for(examples)('the specification shows %o rightly', example => {
  const type = String(example['type'])
  const request = 'kind' in example ? api.operationRequestSchema : undefined
  const schema = request ?? schemas[type] ?? api.operationEventSchema
  expect(() => schema.parse(example)).not.toThrow()
})

test('the specification has a row for every route', () => {
  for (const route of Object.values(api.routes)) expect(spec).toContain(route.replace(':id', 'ID'))
})
