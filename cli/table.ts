/** Aligned columns that fit the terminal; in a pipe nothing is cut. */

import type { Style } from './style.ts'
import { printable, shorten, shortenMiddle, widthOf } from './text.ts'

export interface Column<Row> {
  readonly title: string
  readonly value: (row: Row) => string
  readonly align?: 'right'
  /** How the column gives way on a narrow terminal, and to how few columns; it stays whole without. */
  readonly shrink?: { readonly to: number; readonly cut: 'end' | 'middle' }
  /** Left out where nothing else makes the line fit; the highest goes first. */
  readonly drop?: number
  readonly style?: (text: string, row: Row) => string
}

const gap = '  '

/** The table's lines, header first; the empty string without rows. */
export function table<Row>(
  rows: readonly Row[],
  all: readonly Column<Row>[],
  terminal: { columns: number | undefined; style: Style },
): string {
  if (rows.length === 0) return ''
  const columns = shown(rows, all, terminal.columns)
  const cells = rows.map(row => columns.map(column => printable(column.value(row))))
  const natural = columns.map((column, at) =>
    Math.max(widthOf(column.title), ...cells.map(line => widthOf(line[at] ?? ''))),
  )
  const widths = fit(natural, columns, terminal.columns)
  const header = columns.map((column, at) => place(column, column.title, widths[at] ?? 0))
  const lines = cells.map((line, index) =>
    columns.map((column, at) => {
      const placed = place(column, line[at] ?? '', widths[at] ?? 0)
      return column.style?.(placed, rows[index] as Row) ?? placed
    }),
  )
  const title = terminal.style('bold', joined(header))
  return [title, ...lines.map(joined)].join('\n')
}

/** The columns that there is room for, each cut as far as it may be. */
function shown<Row>(
  rows: readonly Row[],
  all: readonly Column<Row>[],
  columnsMax: number | undefined,
): readonly Column<Row>[] {
  if (columnsMax === undefined) return all
  const leastOf = ({ title, value, shrink }: Column<Row>): number => {
    const natural = Math.max(widthOf(title), ...rows.map(row => widthOf(printable(value(row)))))
    return Math.min(natural, shrink?.to ?? natural)
  }
  const columns = all.map(column => ({ column, least: leastOf(column) }))
  const width = (): number =>
    sum(columns.map(({ least }) => least)) + gap.length * (columns.length - 1)
  const droppable = all
    .filter(({ drop }) => drop !== undefined)
    .toSorted((a, b) => (b.drop ?? 0) - (a.drop ?? 0))
  for (const next of droppable) {
    if (width() <= columnsMax) break
    columns.splice(
      columns.findIndex(({ column }) => column === next),
      1,
    )
  }
  return columns.map(({ column }) => column)
}

/** Lines of `name  value`, several lines for a list; names padded to the longest. */
export function fields(
  entries: readonly (readonly [name: string, value: string | readonly string[]])[],
  style: Style,
): string {
  const width = Math.max(...entries.map(([name]) => name.length))
  return entries
    .flatMap(([name, value]) => {
      const values = typeof value === 'string' ? [value] : value
      return values.map((line, index) => {
        const title = (index === 0 ? name : '').padEnd(width)
        return `${style('dim', title)}${gap}${line}`
      })
    })
    .join('\n')
}

/** Takes from the widest column that may still give way until the line fits. */
function fit<Row>(
  natural: readonly number[],
  columns: readonly Column<Row>[],
  columnsMax: number | undefined,
): number[] {
  const widths = [...natural]
  if (columnsMax === undefined) return widths
  const gaps = gap.length * (columns.length - 1)
  for (let over = sum(widths) + gaps - columnsMax; over > 0; over -= 1) {
    const giving = widest(widths, columns)
    if (giving === undefined) break
    widths[giving] = (widths[giving] ?? 0) - 1
  }
  return widths
}

function widest<Row>(
  widths: readonly number[],
  columns: readonly Column<Row>[],
): number | undefined {
  let found: number | undefined
  for (const [at, { shrink }] of columns.entries()) {
    const width = widths[at] ?? 0
    if (shrink === undefined || width <= shrink.to) continue
    if (found === undefined || width > (widths[found] ?? 0)) found = at
  }
  return found
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

function place<Row>(column: Column<Row>, text: string, width: number): string {
  const cut = column.shrink?.cut === 'middle' ? shortenMiddle : shorten
  const short = widthOf(text) > width ? cut(text, width) : text
  const padding = ' '.repeat(Math.max(0, width - widthOf(short)))
  return column.align === 'right' ? padding + short : short + padding
}

function joined(cells: readonly string[]): string {
  return cells.join(gap).trimEnd()
}
