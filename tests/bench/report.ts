/**
 * What a benchmark has to say: on the terminal as it comes, and with --write in docs/benchmarks.md,
 * between the marks of its name.
 */

import { readFile, writeFile } from 'node:fs/promises'
import { cpus, loadavg, totalmem } from 'node:os'
import { resolve } from 'node:path'
import { formatBytes } from '../../src/core/units.ts'
import { type Bar, showBar } from './bench.ts'

const page = resolve(import.meta.dirname, '../../docs/benchmarks.md')

export class Report {
  readonly #name: string
  readonly #head: string
  readonly #bars: string[] = []
  readonly #tables: string[] = []

  /** `name` is that of the npm script. */
  constructor(name: string, notes: readonly string[] = []) {
    this.#name = name
    const [first] = cpus()
    // Whoever else uses the machine is part of the measurement.
    const load = (loadavg()[0] ?? 0).toFixed(1)
    const facts = [
      new Date().toISOString().slice(0, 10),
      `${cpus().length} x ${first?.model ?? 'unknown processor'}`,
      formatBytes(totalmem()),
      `node ${process.version}`,
      `load ${load} before it began`,
      ...notes,
    ]
    this.#head = facts.join(', ')
    process.stdout.write(`${this.#head}\n`)
  }

  bar(bar: Bar): void {
    const verdict = showBar(bar)
    const sign = bar.more ? '≥' : '≤'
    const cells = [bar.name, `${bar.value.toFixed(2)} ${bar.unit}`, `${sign} ${bar.must}`]
    this.#bars.push(row([...cells, `${sign} ${bar.goal}`, verdict]))
  }

  table(columns: readonly string[], rows: readonly (readonly string[])[]): void {
    const lines = [row(columns), row(columns.map(() => '---')), ...rows.map(row)]
    this.#tables.push(lines.join('\n'))
    process.stdout.write(`${lines.join('\n')}\n`)
  }

  /** Replaces what the page says between this benchmark's marks. */
  async write(): Promise<void> {
    const begin = `<!-- ${this.#name} -->`
    const end = `<!-- /${this.#name} -->`
    const text = await readFile(page, 'utf8')
    const [before, rest] = split(text, begin)
    const [, after] = split(rest, end)
    const bars = [
      row(['bar', 'measured', 'must', 'goal', '']),
      row(Array(5).fill('---') as string[]),
    ]
    const parts = [this.#head, ...this.#tables]
    if (this.#bars.length > 0) parts.push([...bars, ...this.#bars].join('\n'))
    await writeFile(page, `${before}${begin}\n${parts.join('\n\n')}\n${end}${after}`)
  }
}

function row(cells: readonly string[]): string {
  // A bar in a name would end the cell.
  return `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

function split(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark)
  if (at === -1) throw new Error(`docs/benchmarks.md has no ${mark}`)
  return [text.slice(0, at), text.slice(at + mark.length)]
}
