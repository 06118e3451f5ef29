/** How a long operation looks while it runs: one bar on a terminal, one line in a pipe. Pure. */

import type { ProgressEvent } from '../src/api/contract.ts'
import { formatBytes, formatDuration, formatRate } from '../src/core/units.ts'
import type { Style } from './style.ts'
import { plural, printable, shortenMiddle, widthOf } from './text.ts'

export interface BarOptions {
  readonly columns: number
  /** False: `#` and `-` instead of block characters. */
  readonly unicode: boolean
  readonly style: Style
}

const barWidthMax = 30
const barWidthMin = 8
/** Less of a file's name than this tells nothing. */
const fileWidthMin = 12

/** One line no wider than the terminal: phase, bar, per cent, bytes, rate, time left, peers, file. */
export function progressBar(event: ProgressEvent, options: BarOptions): string {
  // The last column stays free: writing into it makes some terminals wrap.
  const room = options.columns - 1
  const said = ending(event)
  if (!isMeasured(event)) return shortenMiddle([title(event), ...said].join('  '), room)

  const head = title(event)
  const percent = `${percentOf(event)}%`.padStart(4)
  // The least important facts go first when the terminal is narrow.
  const facts = [...said]
  const spent = (): number => widthOf([head, percent, ...facts].join('  ')) + 2
  while (facts.length > 1 && room - spent() < barWidthMin) facts.pop()
  const width = Math.min(barWidthMax, room - spent())
  const parts = [head, ...(width >= barWidthMin ? [bar(event, width, options)] : []), percent]
  const line = [...parts, ...facts].join('  ')

  const left = room - widthOf(line) - 2
  const { file } = event
  if (file === undefined || left < fileWidthMin) return line
  return `${line}  ${options.style('dim', shortenMiddle(printable(file), left))}`
}

/** The same facts as a sentence, for logs. */
export function progressLine(event: ProgressEvent): string {
  const facts = ending(event)
  if (!isMeasured(event)) return [title(event), ...facts].join(', ')
  return `${title(event)} ${percentOf(event)}%: ${facts.join(', ')}`
}

const titles: Readonly<Record<ProgressEvent['phase'], string>> = {
  finding: 'looking for peers',
  listing: 'asking the hub',
  hashing: 'hashing',
  reusing: 'copying what is here',
  fetching: 'fetching',
  waiting: 'waiting',
  publishing: 'writing to disk',
  verifying: 'verifying',
}

function title(event: ProgressEvent): string {
  return titles[event.phase]
}

/** Most important first. */
function ending(event: ProgressEvent): string[] {
  const { phase, bytesDone, bytesTotal, bytesPerSecond, etaMs, peers } = event
  switch (phase) {
    case 'finding':
      return peers > 0 ? [plural(peers, 'peer')] : []
    case 'listing':
      return []
    case 'waiting':
      return [
        `nobody serves the missing ${formatBytes(bytesTotal - bytesDone)} now`,
        `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)} held`,
        plural(peers, 'peer'),
      ]
    case 'hashing':
    case 'reusing':
    case 'fetching':
    case 'publishing':
    case 'verifying': {
      const facts = [`${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}`]
      if (bytesPerSecond > 0) facts.push(formatRate(bytesPerSecond))
      if (etaMs !== null) facts.push(`${formatDuration(etaMs)} left`)
      if (phase === 'fetching') facts.push(plural(peers, 'source'))
      return facts
    }
  }
}

const unmeasured: ReadonlySet<ProgressEvent['phase']> = new Set(['finding', 'listing', 'waiting'])

/** Whether a bar can be drawn: something is to be done, and its size is known. */
function isMeasured(event: ProgressEvent): boolean {
  return !unmeasured.has(event.phase) && event.bytesTotal > 0
}

/** Rounded down: 100 means every byte. */
function percentOf({ bytesDone, bytesTotal }: ProgressEvent): number {
  return Math.min(100, Math.floor((bytesDone / bytesTotal) * 100))
}

function bar(event: ProgressEvent, width: number, { unicode, style }: BarOptions): string {
  const filled = Math.floor(
    (Math.min(event.bytesDone, event.bytesTotal) / event.bytesTotal) * width,
  )
  const [full, empty] = unicode ? ['█', '░'] : ['#', '-']
  return style('green', full.repeat(filled)) + style('dim', empty.repeat(width - filled))
}
