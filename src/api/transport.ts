/**
 * HTTP on the daemon's socket, from the asking side: one connection for one call, the head of every
 * answer checked, errors rebuilt as the daemon threw them. On `node:http`, which loads in a third of
 * the time of undici: a command pays this at each run.
 */

import type { IncomingMessage } from 'node:http'
import type { z } from 'zod'
import {
  CommonweightError,
  ConflictError,
  errorFromCode,
  errorTable,
  LimitError,
  StorageError,
  systemCode,
  UnavailableError,
} from '../core/errors.ts'
import type { ErrorCode } from '../core/errors.ts'
import { MiB } from '../core/units.ts'
import type * as api from './contract.ts'
import { socketFolder } from './home.ts'
import type { HomePaths } from './home.ts'
import { readLines } from './lines.ts'
import { checkPrivate } from './private-folder.ts'
import { apiVersion, apiVersionHeader, routes } from './routes.ts'
import { schemaFault } from './schema-faults.ts'

// Not imported: an import reads every export of a built-in module, and one of node:http's loads all
// of undici, which took half of the time of a command.
const { request: httpRequest } = process.getBuiltinModule('node:http')

/** A manifest has 100,000 files at most and the view of one takes 2 KiB or so. */
const answerBytesMax = 256 * MiB
/** Of the events the result of verify is the longest: every bad chunk of what is held. */
const lineBytesMax = 64 * MiB

export interface Call {
  readonly path: string
  /** Default: POST with a body, GET without. */
  readonly method?: 'GET' | 'POST' | 'DELETE'
  readonly body?: unknown
  readonly signal?: AbortSignal | undefined
}

type Contract = typeof api

/** A schema of the contract, by its name: it is not loaded when somebody asks. */
export type SchemaName = {
  [K in keyof Contract]: Contract[K] extends z.ZodType ? K : never
}[keyof Contract]
type EventSchemaName = 'operationEventSchema' | 'providersEventSchema'
export type Answer<N extends SchemaName> = z.output<Contract[N]>

/** zod and the schemas take a third of a command's CPU: they are loaded while the daemon works on its answer. */
function loadContract(): Promise<Contract> {
  return import('./contract.ts')
}

/** TypeScript sees all schemas at once where one is named. */
function schemaOf<N extends SchemaName>(contract: Contract, name: N): z.ZodType<Answer<N>> {
  return contract[name] as unknown as z.ZodType<Answer<N>>
}

/** Asks and returns the answer, checked. */
export async function ask<N extends SchemaName>(
  paths: HomePaths,
  call: Call,
  schema: N,
): Promise<Answer<N>> {
  const response = await send(paths, call)
  const contract = await loadContract()
  return checked(schemaOf(contract, schema), parseJson(await readAll(response, call)))
}

/** Asks, and looks at the head of the answer only. */
export async function reach(paths: HomePaths, call: Call): Promise<void> {
  const response = await send(paths, call)
  await readAll(response, call)
}

/** True when no daemon runs on the home: the caller may start one and ask again. */
export function isNoDaemon(error: unknown): boolean {
  return error instanceof UnavailableError && isAbsent(systemCode(error.cause))
}

/** No socket, one whose daemon died, or a file where the home should be. */
function isAbsent(code: string | undefined): boolean {
  return code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR'
}

/** The response to a call, its head checked; the errors of the daemon are thrown. */
async function send(paths: HomePaths, call: Call): Promise<IncomingMessage> {
  call.signal?.throwIfAborted()
  const response = await exchange(paths, call)
  const version = response.headers[apiVersionHeader]
  const ok = response.statusCode !== undefined && response.statusCode < 300
  if (!ok) {
    const contract = await loadContract()
    const { data } = contract.errorBodySchema.safeParse(parseJson(await readAll(response, call)))
    if (isNotUnderstood(data) && (await isOtherContract(response)))
      throw otherVersion(`: ${data?.message}`)
    throw rebuild(contract, data)
  }
  // An older or newer daemon may still be told to stop.
  if (version !== String(apiVersion) && call.path !== routes.stop) throw otherVersion()
  return response
}

async function exchange(paths: HomePaths, call: Call): Promise<IncomingMessage> {
  const body = call.body === undefined ? undefined : JSON.stringify(call.body)
  try {
    await checkSocketFolder(paths)
    return await new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          socketPath: paths.socket,
          path: call.path,
          method: call.method ?? (body === undefined ? 'GET' : 'POST'),
          headers: {
            host: 'localhost',
            [apiVersionHeader]: String(apiVersion),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          // One socket for one call, closed with it: nothing keeps a command alive at its end.
          agent: false,
          ...(call.signal === undefined ? {} : { signal: call.signal }),
        },
        resolve,
      )
      request.once('error', reject)
      request.end(body)
    })
  } catch (error) {
    call.signal?.throwIfAborted()
    throw explain(paths, error)
  }
}

/** A socket outside the home lies where any user may have made it. */
async function checkSocketFolder(paths: HomePaths): Promise<void> {
  const folder = socketFolder(paths)
  if (folder !== undefined) await checkPrivate(folder, { follow: false })
}

function explain(paths: HomePaths, error: unknown): Error {
  if (error instanceof CommonweightError) return error
  const code = systemCode(error)
  if (isAbsent(code)) {
    return new UnavailableError(`no daemon is running on ${paths.home}`, {
      cause: error,
      hint: 'start one: commonweight daemon',
    })
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new StorageError(`no access to the daemon's socket ${paths.socket}`, {
      cause: error,
      hint: 'run as the user whose daemon it is',
    })
  }
  return lost(error)
}

function lost(cause?: unknown): UnavailableError {
  return new UnavailableError('the connection to the daemon was lost', {
    cause,
    hint: 'see its log; what it was doing goes on when it starts again',
  })
}

/** What a daemon says of a field or a route that it has never heard of, and of other mistakes. */
function isNotUnderstood(body: api.ErrorBody | undefined): boolean {
  return body?.code === 'INVALID_INPUT' || body?.message.startsWith('no such route') === true
}

/** Loaded when needed: it costs more than all else that a command does here. */
async function isOtherContract({ headers }: IncomingMessage): Promise<boolean> {
  const { contractDigest, contractHeader } = await import('./contract-digest.ts')
  return headers[contractHeader] !== contractDigest()
}

function otherVersion(said = ''): ConflictError {
  return new ConflictError(`the daemon is of another version than this command${said}`, {
    hint: 'end it with commonweight stop, then run this again',
  })
}

/** The error that the daemon threw, as if it had been thrown here. */
function rebuild({ abortedCode }: Contract, body: api.ErrorBody | undefined): Error {
  if (body === undefined) return otherVersion()
  const details = body.hint === undefined ? {} : { hint: body.hint }
  if (Object.hasOwn(errorTable, body.code)) {
    return errorFromCode(body.code as ErrorCode, body.message, details)
  }
  if (body.code === abortedCode) return new DOMException(body.message, 'AbortError')
  return new Error(`the daemon failed: ${body.message}; its log has the details`)
}

async function readAll(response: IncomingMessage, { signal }: Call): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of readBytes(response, signal)) {
    bytes += part.length
    if (bytes > answerBytesMax) throw new LimitError('the answer of the daemon is too long')
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

async function* readBytes(
  response: IncomingMessage,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const part of response) yield part as Buffer
  } catch (error) {
    signal?.throwIfAborted()
    throw lost(error)
  }
}

/** What ends a stream when all went well. */
const lastEvents: ReadonlySet<string> = new Set([
  'seeded',
  'pulled',
  'verified',
  'adoption',
  'done',
])

/** Asks and yields events as they arrive; an error event is thrown, and so is an end before the last. */
export async function* askLines<N extends EventSchemaName>(
  paths: HomePaths,
  call: Call,
  schema: N,
): AsyncGenerator<Exclude<Answer<N>, api.ErrorBody>> {
  const response = await send(paths, call)
  const contract = await loadContract()
  let last = ''
  for await (const line of readLines(readBytes(response, call.signal), lineBytesMax)) {
    const event = checked(schemaOf(contract, schema), parseJson(line))
    if (event.type === 'error') throw rebuild(contract, contract.errorBodySchema.parse(event))
    last = event.type
    yield event as Exclude<Answer<N>, api.ErrorBody>
  }
  if (!lastEvents.has(last)) throw lost()
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Whatever it was, it is not our protocol: the schema says so next.
    return undefined
  }
}

function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  // An answer of our own contract fits: so it is another one, or a bug that a restart does not hide.
  const fault = schemaFault(parsed.error, 'it')
  throw otherVersion(`, and its answer is not understood (${fault})`)
}
