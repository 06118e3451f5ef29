/** Colours: whether a stream gets them, and text with and without. */

import { styleText } from 'node:util'

type Format = Parameters<typeof styleText>[0]

export type Style = (format: Format, text: string) => string

/** Whether a stream gets colour: the flag, then NO_COLOR, FORCE_COLOR and the terminal as Node reads them. */
export function wantsColor(flag: boolean, stream: NodeJS.WriteStream): boolean {
  return flag && styleText('bold', 'x', { stream }) !== 'x'
}

export function styled(on: boolean, format: Format, text: string): string {
  return on ? styleText(format, text, { validateStream: false }) : text
}
