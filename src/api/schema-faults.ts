/** What a schema found wrong, in the words of people: zod's own are for programmers. */

import type { z } from 'zod'

/** Said wherever a REF, a name or an address is none. */
export const refHint =
  'a REF is a manifest or file CID, sha256:HEX, a cw:// link or a name like org/model'
export const nameHint =
  'a name is ORG/MODEL: up to four parts of letters, digits and . _ -, 200 characters in all'
export const addressHint = 'an address looks like /ip4/192.0.2.7/tcp/4011/p2p/12D3Koo…'
const globHint = "a pattern looks like '*.safetensors' or 'onnx/**'"

const hints: Readonly<Record<string, string>> = {
  ref: refHint,
  name: nameHint,
  address: addressHint,
  peers: addressHint,
  include: globHint,
  exclude: globHint,
}

/** What the part that is wrong should look like. */
export function schemaHint({ issues: [issue] }: z.ZodError): { readonly hint?: string } {
  const hint = hints[String(issue?.path[0])]
  return hint === undefined ? {} : { hint }
}

/** `ref is longer than 4096 characters`: the part that is wrong by its path; `whole` names all of it. */
export function schemaFault(error: z.ZodError, whole: string): string {
  const path = error.issues[0]?.path ?? []
  return valueFault(error, path.length === 0 ? whole : path.join('.'))
}

/** The same with a name of the caller's for what is wrong. */
export function valueFault({ issues: [issue] }: z.ZodError, name: string): string {
  if (issue === undefined) return `${name} is wrong`
  // Ours, and a sentence already.
  const isOurs = issue.code === 'invalid_union' && issue.message !== unionMessage
  if (issue.code === 'custom' || isOurs) return `${name}: ${lowerFirst(issue.message)}`
  return `${name} ${predicateOf(issue)}`
}

/** Zod's own, where a schema brings no message for its union. */
const unionMessage = 'Invalid input'

/** Without a name before it: `is empty`, `must be a number`. */
function predicateOf(issue: Exclude<z.core.$ZodIssue, z.core.$ZodIssueCustom>): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${typeName(issue.expected)}`
    case 'too_big':
      return tooBig(issue)
    case 'too_small':
      return tooSmall(issue)
    case 'unrecognized_keys':
      return `has an unknown field: ${issue.keys.join(', ')}`
    case 'invalid_value':
      return issue.values.length === 1
        ? `must be ${String(issue.values[0])}`
        : `must be one of ${issue.values.map(String).join(', ')}`
    case 'invalid_union':
      return 'is none of the known kinds'
    case 'invalid_format':
    case 'not_multiple_of':
    case 'invalid_key':
    case 'invalid_element':
      return `is not valid (${lowerFirst(issue.message)})`
  }
}

function tooBig({ origin, maximum }: z.core.$ZodIssueTooBig): string {
  if (origin === 'string') return `is longer than ${maximum} characters`
  if (origin === 'array') return `has more than ${maximum} entries`
  return `must be at most ${maximum}`
}

function tooSmall({ origin, minimum }: z.core.$ZodIssueTooSmall): string {
  if (origin !== 'string' && origin !== 'array') return `must be at least ${minimum}`
  return minimum === 1 ? 'is empty' : `has fewer than ${minimum}`
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
}

function typeName(expected: string): string {
  return typeNames[expected] ?? `of type ${expected}`
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}
