import { expect, test } from 'vitest'
import { type Column, fields, table } from '../../../cli/table.ts'

interface Row {
  readonly name: string
  readonly size: string
}

const columns: readonly Column<Row>[] = [
  { title: 'NAME', value: ({ name }) => name, shrink: { to: 6, cut: 'middle' } },
  { title: 'SIZE', value: ({ size }) => size, align: 'right' },
]
const plain = (_: unknown, text: string): string => text
const rows: Row[] = [
  { name: 'sentence-transformers/all-MiniLM-L6-v2', size: '87 MiB' },
  { name: 'tiny', size: '1.02 GiB' },
]

test('aligns columns and cuts nothing in a pipe', () => {
  expect(table(rows, columns, { columns: undefined, style: plain })).toBe(
    [
      'NAME                                        SIZE',
      'sentence-transformers/all-MiniLM-L6-v2    87 MiB',
      'tiny                                    1.02 GiB',
    ].join('\n'),
  )
})

test('gives way in the columns that may, until it fits the terminal', () => {
  const text = table(rows, columns, { columns: 26, style: plain })
  expect(text.split('\n')).toEqual([
    'NAME                  SIZE',
    'sentence…M-L6-v2    87 MiB',
    'tiny              1.02 GiB',
  ])
})

test('never cuts below the least that tells rows apart', () => {
  const [, first] = table(rows, columns, { columns: 5, style: plain }).split('\n')
  expect(first).toBe('sente…    87 MiB')
})

test('prints nothing for no rows', () => {
  expect(table([], columns, { columns: 80, style: plain })).toBe('')
})

test('shows a hostile name as text', () => {
  const hostile = [{ name: 'x\u001B]0;owned\u0007', size: '1 B' }]
  expect(table(hostile, columns, { columns: undefined, style: plain })).not.toContain('\u001B')
})

test('colours a cell without moving the next', () => {
  const red = (_: unknown, text: string): string => `\u001B[31m${text}\u001B[39m`
  const coloured: Column<Row>[] = [
    { title: 'NAME', value: ({ name }) => name, style: text => red(undefined, text) },
    { title: 'SIZE', value: ({ size }) => size },
  ]
  const [, line] = table([{ name: 'a', size: 'b' }], coloured, {
    columns: undefined,
    style: plain,
  }).split('\n')
  expect(line).toBe('\u001B[31ma   \u001B[39m  b')
})

test('lists fields with their names padded, lists below each other', () => {
  const text = fields(
    [
      ['home', '/x'],
      ['addresses', ['a', 'b']],
    ],
    plain,
  )
  expect(text).toBe(['home       /x', 'addresses  a', '           b'].join('\n'))
})
