/** Text for terminals: made harmless, measured and cut to a width. */

import { stripVTControlCharacters } from 'node:util'

/** C0, DEL and C1: what moves a cursor, rings, or starts an escape sequence; and what flips direction. */
// oxlint-disable-next-line no-control-regex -- the characters are the point
const controls = /[\u0000-\u001F\u007F-\u009F\u200E\u200F\u202A-\u202E\u2066-\u2069]/g

/**
 * The text with every control character shown as an escape, so that a name or message from a
 * stranger cannot write to the terminal, recolour it or fake lines.
 */
export function printable(text: string, options: { keepLines?: boolean } = {}): string {
  return text.replace(controls, character => {
    if (character === '\n' && options.keepLines === true) return character
    const code = character.codePointAt(0) ?? 0
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`
  })
}

/** Columns the text takes, colours not counted. Wide scripts count as one a character. */
export function widthOf(text: string): number {
  return Array.from(stripVTControlCharacters(text)).length
}

/** The text cut to `width` columns, the cut marked by an ellipsis. Only for text without colours. */
export function shorten(text: string, width: number): string {
  const characters = Array.from(text)
  if (characters.length <= width) return text
  return width <= 0 ? '' : `${characters.slice(0, width - 1).join('')}…`
}

/** Cut in the middle: for CIDs and paths, whose ends tell them apart. */
export function shortenMiddle(text: string, width: number): string {
  const characters = Array.from(text)
  if (characters.length <= width) return text
  if (width < 8) return shorten(text, width)
  const head = Math.ceil((width - 1) / 2)
  const tail = width - 1 - head
  return `${characters.slice(0, head).join('')}…${characters.slice(-tail).join('')}`
}

/** `1 file`, `2 files`. */
export function plural(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`
}

/** Enough of an operation's id to name it by. */
export function shortId(id: string): string {
  return id.slice(0, 8)
}

/** A command in a text for people: what a hint says to run. */
const commandPattern = /\bcommonweight (?!--home|help|completion)(?=[a-z])/g

/** Makes the commands that a text names work on the home in use: one given by flag, they do not know. */
export function withHome(text: string, home: string | undefined): string {
  if (home === undefined) return text
  return text.replace(commandPattern, () => `commonweight --home ${quoted(home)} `)
}

/** As a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`
}
