import { expect, test } from 'vitest'
import { humanLine, openLog } from '../../../daemon/log.ts'
import type { LogOptions } from '../../../daemon/log.ts'

function logged(options: Partial<LogOptions>, write: (log: ReturnType<typeof openLog>) => void) {
  const lines: string[] = []
  const sink = { write: (line: string) => lines.push(line) }
  write(openLog(sink, { level: 'info', json: false, color: false, ...options }))
  return lines
}

test('writes a line a person reads, with fields as words', () => {
  const [line] = logged({}, log => log.info('pulled', { files: 3, from: 'a b', cid: 'bafy' }))
  expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}pulled files=3 from="a b" cid=bafy\n$/)
})

test('writes one JSON object a line when asked', () => {
  const [line = ''] = logged({ json: true }, log => log.warn('hot', { degrees: 90 }))
  expect(JSON.parse(line)).toMatchObject({ level: 'warn', message: 'hot', degrees: 90 })
})

test('drops what is below the level', () => {
  expect(logged({ level: 'warn' }, log => log.info('quiet'))).toEqual([])
})

test.for([true, false])('never writes keys and tokens, json %s', json => {
  const [line] = logged({ json }, log =>
    log.info('request', {
      token: 'hunter2',
      privateKey: 'hunter2',
      peer: { privateKey: 'hunter2', id: 'a' },
      headers: { authorization: 'Bearer hunter2' },
    }),
  )
  expect(line).toContain('request')
  expect(line).not.toContain('hunter2')
})

test('shows the stack of an error and of its cause', () => {
  const error = new Error('outer', { cause: new TypeError('inner') })
  const text = logged({}, log => log.error('broke', { error })).join('')
  expect(text).toContain('Error: outer')
  expect(text).toContain('TypeError: inner')
  expect(text).toContain('log.test.ts')
})

test('lets no control character of a peer reach the terminal', () => {
  const line = humanLine(
    JSON.stringify({
      time: 't',
      level: 'info',
      message: 'a\u001b[31m\nforged',
      agent: 'x\u0007 y',
    }),
    false,
  )
  expect(line).toBe('t info  a\\u001b[31m\\nforged agent="x\\u0007 y"\n')
})
