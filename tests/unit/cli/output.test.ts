import { beforeEach, expect, test } from 'vitest'
import { Output, type OutputOptions } from '../../../cli/output.ts'
import type { ProgressEvent } from '../../../src/api/contract.ts'
import { InvalidInputError, StorageError } from '../../../src/core/errors.ts'

let out = ''
let err = ''
let nowMs = 0

beforeEach(() => {
  out = ''
  err = ''
  nowMs = 0
})

function openOutput(
  changes: Partial<OutputOptions> & { terminal?: boolean; columns?: number } = {},
): Output {
  const { terminal = false, columns = 100, ...options } = changes
  const stream = { isTTY: terminal, columns }
  return new Output({
    stdout: { ...stream, write: text => (out += text) },
    stderr: { ...stream, write: text => (err += text) },
    json: false,
    quiet: false,
    colorOut: false,
    colorErr: false,
    unicode: true,
    monotonic: () => nowMs,
    ...options,
  })
}

function progress(changes: Partial<ProgressEvent> = {}): ProgressEvent {
  return {
    type: 'progress',
    phase: 'hashing',
    filesDone: 0,
    filesTotal: 1,
    bytesDone: 1,
    bytesTotal: 2,
    bytesPerSecond: 0,
    etaMs: null,
    peers: 0,
    ...changes,
  }
}

test('sends results to stdout and everything else to stderr, prefixed', () => {
  const output = openOutput()
  output.result({ type: 'link', link: 'cw://x' }, () => 'cw://x')
  output.note('starting')
  output.warn('slow')
  expect(out).toBe('cw://x\n')
  expect(err).toBe('commonweight: starting\ncommonweight: warning: slow\n')
})

test('prints one object a line with --json, and no text', () => {
  const output = openOutput({ json: true })
  output.result({ type: 'a', text: 'two\nlines' }, () => 'text')
  output.object({ type: 'b' })
  expect(out).toBe('{"type":"a","text":"two\\nlines"}\n{"type":"b"}\n')
})

test('ends a failure with the message, the hint, and with --json the object', () => {
  const output = openOutput({ json: true })
  output.error(new InvalidInputError('not a CID: x', { hint: 'copy it whole' }))
  expect(err).toBe('commonweight: not a CID: x\nhint: copy it whole\n')
  expect(JSON.parse(out)).toEqual({
    type: 'error',
    code: 'INVALID_INPUT',
    message: 'not a CID: x',
    hint: 'copy it whole',
  })
})

test('tells why the file system refused', () => {
  openOutput().error(new StorageError('writing /x', { cause: new Error('no space left') }))
  expect(err).toBe('commonweight: writing /x: no space left\n')
})

test('writes many results in a few pieces, whole lines each', () => {
  const pieces: string[] = []
  const stdout = { isTTY: false, write: (text: string) => pieces.push(text) }
  const all = Array.from({ length: 5000 }, (_, index) => {
    return [{ type: 'file', index }, () => `file ${index}`] as const
  })
  for (const json of [true, false]) {
    pieces.length = 0
    openOutput({ json, stdout }).results(all)
    const lines = all.map(([value, text]) => (json ? JSON.stringify(value) : text()))
    expect(pieces.join('')).toBe(`${lines.join('\n')}\n`)
    expect(pieces.length).toBeLessThan(5)
    expect(pieces.every(piece => piece.endsWith('\n'))).toBe(true)
  }
  pieces.length = 0
  openOutput({ stdout }).results([])
  expect(pieces).toEqual([])
})

test('calls an unexpected error a bug and shows its stack', () => {
  openOutput().error(new TypeError('undefined is not a function'))
  expect(err).toMatch(/^commonweight: this is a bug: TypeError: undefined is not a function\n +at /)
})

test('names an interruption as one', () => {
  const output = openOutput({ json: true })
  output.error(new DOMException('stop', 'AbortError'))
  expect(JSON.parse(out)).toEqual({ type: 'error', code: 'ABORTED', message: 'interrupted' })
})

test('lets no control character of a peer through to the terminal', () => {
  const output = openOutput()
  output.note('peer \u001B[31msays')
  output.error(new InvalidInputError('\u001B]0;x\u0007', { hint: '\u009B2J' }))
  // oxlint-disable-next-line no-control-regex -- the characters are the point
  expect(err).not.toMatch(/[\u001B\u0007\u009B]/)
})

test('redraws a bar on a terminal ten times a second at most, and removes it before other lines', () => {
  const output = openOutput({ terminal: true })
  for (nowMs = 0; nowMs < 1000; nowMs += 10) output.progress(progress())
  expect(err.match(/\r/g)).toHaveLength(10)
  err = ''
  output.note('hello')
  expect(err).toBe('\r\u001B[2Kcommonweight: hello\n')
  err = ''
  output.endProgress()
  expect(err).toBe('')
})

test('prints a plain line every five seconds in a pipe, none for short work', () => {
  const output = openOutput()
  for (nowMs = 0; nowMs <= 12_000; nowMs += 100) output.progress(progress())
  expect(err.trimEnd().split('\n')).toEqual(
    Array.from({ length: 3 }, () => 'commonweight: hashing 50%: 1 B of 2 B'),
  )
})

test('tells a change of phase at once', () => {
  const output = openOutput()
  output.progress(progress())
  nowMs = 2000
  output.progress(progress())
  nowMs = 2001
  output.progress(progress({ phase: 'waiting' }))
  expect(err).toContain('waiting')
})

test('says nothing but results, warnings and errors with --quiet', () => {
  const output = openOutput({ quiet: true })
  nowMs = 10_000
  output.progress(progress())
  output.note('x')
  expect(err).toBe('')
  output.warn('y')
  expect(err).toBe('commonweight: warning: y\n')
})

test('colours only where colour was decided on', () => {
  const output = openOutput({ colorErr: true })
  output.error(new InvalidInputError('no'))
  expect(err).toBe('commonweight: \u001B[31mno\u001B[39m\n')
  expect(output.style('bold', 'x')).toBe('x')
})

test('knows the width of a terminal and none of a pipe', () => {
  expect(openOutput({ terminal: true, columns: 40 }).columns).toBe(40)
  expect(openOutput().columns).toBeUndefined()
})

test('names the home that was given by flag in what it says to run', () => {
  const output = openOutput({ home: '/x', json: true })
  output.note('to follow it: commonweight attach 12')
  output.error(new InvalidInputError('no', { hint: 'commonweight stop' }))
  expect(err).toContain('commonweight: to follow it: commonweight --home /x attach 12\n')
  expect(err).toContain('hint: commonweight --home /x stop\n')
  expect(JSON.parse(out)).toMatchObject({ hint: 'commonweight --home /x stop' })
})
