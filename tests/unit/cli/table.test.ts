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

test('leaves out what may be left out, the least important first, only where it must', () => {
  const wide: readonly Column<Row>[] = [
    ...columns,
    { title: 'SINCE', value: () => '2m 10s', drop: 1 },
    { title: 'AGENT', value: () => 'commonweight', shrink: { to: 8, cut: 'end' }, drop: 2 },
  ]
  const titles = (width: number): string[] | undefined =>
    table(rows, wide, { columns: width, style: plain }).split('\n')[0]?.split(/ +/)
  // The least widths are 6, 8, 6 and 8, and two between each.
  expect(titles(34)).toEqual(['NAME', 'SIZE', 'SINCE', 'AGENT'])
  expect(titles(33)).toEqual(['NAME', 'SIZE', 'SINCE'])
  expect(titles(23)).toEqual(['NAME', 'SIZE'])
  expect(titles(5)).toEqual(['NAME', 'SIZE'])
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
