/** What end-to-end tests share: a scratch world, its machines, and what is asked of them again and again. */

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import {
  fileSchema,
  modelSchema,
  progressSchema,
  pulledSchema,
  seededSchema,
  type FileView,
  type ModelView,
  type ProgressEvent,
  type PulledEvent,
  type SeededEvent,
} from '../../src/api/contract.ts'
import {
  type Machine,
  type MachineOptions,
  type Outcome,
  startMachine,
  witnessSha256,
  type World,
} from './machine.ts'
import { filesBelow } from './model-files.ts'
import { checkLine } from './output-lines.ts'
import { openScratchFolder } from './scratch-folder.ts'

export interface Stage extends AsyncDisposable {
  readonly world: World
  /** A path in the scratch folder. */
  file(name: string): string
  /** Starts a daemon that knows only the given machines; one of a name used before has that home. */
  start(name: string, knows?: readonly Machine[], options?: MachineOptions): Promise<Machine>
}

/**
 * Builds the command once, and ends every daemon and file with the test. Daemons must end well and log
 * no error: that is a bug, or something a person must act on, which only some tests are about.
 */
export async function openStage({
  allowedErrors,
}: { allowedErrors?: RegExp } = {}): Promise<Stage> {
  const command = join(import.meta.dirname, '../../cw')
  execFileSync(command, ['--version'], { stdio: 'ignore' })
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const world: World = { command, folder: scratch.path, onLine: checkLine }
  const machines: Machine[] = []
  opening.defer(async () => {
    await Promise.all(machines.map(machine => machine[Symbol.asyncDispose]()))
    const errors = machines
      .flatMap(machine =>
        machine
          .log()
          .split('\n')
          .map(line => `${machine.name}: ${line}`),
      )
      .filter(line => /^[^:]+: \S+ error /.test(line) && allowedErrors?.test(line) !== true)
    expect(errors).toEqual([])
  })
  const open = opening.move()
  return {
    world,
    file: name => scratch.file(name),
    async start(name, knows = [], options = {}) {
      const bootstrap = knows.map(({ address }) => address)
      const machine = await startMachine(world, name, bootstrap, options)
      machines.push(machine)
      return machine
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** A stage for all tests of a file: opened before what the file's own `beforeAll` does, closed after all. */
export function useStage(
  options: Parameters<typeof openStage>[0] = {},
): Pick<Stage, 'file' | 'start' | 'world'> {
  let opened: Stage | undefined
  const stage = (): Stage => {
    if (opened === undefined) throw new Error('the stage is open only while tests and hooks run')
    return opened
  }
  beforeAll(async () => {
    opened = await openStage(options)
  })
  afterAll(() => opened?.[Symbol.asyncDispose]())
  return {
    get world() {
      return stage().world
    },
    file: name => stage().file(name),
    start: (name, knows, more) => stage().start(name, knows, more),
  }
}

export async function seed(machine: Machine, ...args: string[]): Promise<SeededEvent> {
  return seededSchema.parse(succeeded(await machine.cw('seed', ...args)).last)
}

export async function pull(machine: Machine, ...args: string[]): Promise<PulledEvent> {
  return pulledSchema.parse(succeeded(await machine.cw('pull', ...args)).last)
}

export interface RunningPull {
  readonly ended: Promise<Outcome>
  /** The first progress that is so; fails when the pull ends before. */
  reached(isThere: (progress: ProgressEvent) => boolean): Promise<ProgressEvent>
}

/** A pull that is watched while it runs. */
export function startPull(machine: Machine, ...args: string[]): RunningPull {
  return startOperation(machine, 'pull', ...args)
}

/** The same of any verb that takes long. */
export function startOperation(machine: Machine, ...args: string[]): RunningPull {
  const seen: ProgressEvent[] = []
  const listeners = new Set<() => void>()
  const ended = machine.watch(args, line => {
    if (line.type !== 'progress') return
    seen.push(progressSchema.parse(line))
    for (const listener of listeners) listener()
  })
  return {
    ended,
    async reached(isThere) {
      const { promise, resolve, reject } = Promise.withResolvers<ProgressEvent>()
      const look = (): void => {
        const found = seen.find(isThere)
        if (found !== undefined) resolve(found)
      }
      listeners.add(look)
      look()
      ended.then(
        ({ last }) => reject(new Error(`it ended before: ${JSON.stringify(last)}`)),
        reject,
      )
      return promise.finally(() => listeners.delete(look))
    },
  }
}

/** Nothing is left to fetch but what nobody serves. */
export function isWaiting({ phase, bytesDone }: ProgressEvent): boolean {
  return phase === 'waiting' && bytesDone > 0
}

export function succeeded(outcome: Outcome): Outcome {
  if (outcome.code !== 0) throw new Error(`exit ${outcome.code}: ${outcome.stderr}`)
  return outcome
}

/** The command failed as the taxonomy says, and told what to do. */
export function expectError(outcome: Outcome, exit: number, message: RegExp | string): void {
  expect(outcome.last).toMatchObject({ type: 'error', message: expect.stringMatching(message) })
  expect(outcome.code).toBe(exit)
  const { message: said, hint } = outcome.last
  expect({ said, hint }).toEqual({ said, hint: expect.any(String) })
}

export async function show(
  machine: Machine,
  ref: string,
): Promise<{ model: ModelView; files: FileView[] }> {
  const { lines } = succeeded(await machine.cw('show', ref))
  const [model, ...rest] = lines
  // Of a model from a hub, where it comes from stands between.
  const files = rest.filter(({ type }) => type === 'file')
  return { model: modelSchema.parse(model), files: files.map(line => fileSchema.parse(line)) }
}

/** Both folders have the same files with the same bytes, by a program that is not ours. */
export async function expectSameFiles(folder: string, original: string): Promise<void> {
  const files = await filesBelow(original)
  expect(await filesBelow(folder)).toEqual(files)
  for (const file of files) {
    const wanted = await witnessSha256(join(original, file))
    expect({ file, sha256: await witnessSha256(join(folder, file)) }).toEqual({
      file,
      sha256: wanted,
    })
  }
}
