/**
 * The one validator of paths inside a model. It rejects and never cleans: a cleaned path is another
 * path, and two machines must agree on what a manifest says. What it accepts names the same file on
 * every system, inside the model's folder and nowhere else. The rule is docs/spec/manifest.md.
 */

import { InvalidInputError } from '../core/errors.ts'

/** UTF-8 bytes of a path; every system takes as many below a short folder. */
export const pathBytesMax = 1024
/** UTF-8 bytes of a segment: ext4, APFS and NTFS all stop here. */
export const segmentBytesMax = 255
export const segmentsMax = 32

// Control characters, and what Windows forbids; a backslash would be a separator there.
// oxlint-disable-next-line no-control-regex -- control characters are what this looks for
const forbidden = /[\u0000-\u001f\u007f-\u009f<>:"|?*\\]/u
/** Characters that show nothing, or turn the text around them: a name could look like another. */
const invisible = /[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u
/** Names that Windows gives to devices, whatever their extension. */
const device = /^(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9¹²³])[ ]*(?:\.|$)/iu
const ascii = /^[\u0020-\u007e]*$/u

/** Returns the path unchanged, or throws InvalidInputError with the rule it breaks. */
export function parsePath(path: string): string {
  const broken = brokenRule(path)
  if (broken === undefined) return path
  throw new InvalidInputError(
    `not a path in a model: ${JSON.stringify(path.slice(0, 200))} ${broken}`,
    {
      hint: 'rename the file, or leave it out',
    },
  )
}

/**
 * Two paths with one key are the same file for some file system: case and compatibility forms folded.
 */
export function collisionKey(path: string): string {
  if (ascii.test(path)) return path.toLowerCase()
  return path.normalize('NFKC').toLowerCase().normalize('NFKC')
}

/**
 * Orders paths by their UTF-8 bytes, which is the order of code points. JavaScript's own order
 * differs: it puts the surrogates of emoji before U+E000 to U+FFFF.
 */
export function comparePaths(a: string, b: string): number {
  if (a === b) return 0
  const shorter = Math.min(a.length, b.length)
  let at = 0
  while (at < shorter && a.charCodeAt(at) === b.charCodeAt(at)) at += 1
  if (at === shorter) return a.length - b.length
  return codePointRank(a.charCodeAt(at)) - codePointRank(b.charCodeAt(at))
}

/** Ranks a UTF-16 unit so that surrogates come after all others. */
function codePointRank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit
}

function brokenRule(path: string): string | undefined {
  if (path === '') return 'is empty'
  // Bounds the work below: a UTF-16 unit is at least one byte.
  if (path.length > pathBytesMax) return `is longer than ${pathBytesMax} bytes`
  if (!path.isWellFormed()) return 'is not well-formed Unicode'
  if (Buffer.byteLength(path) > pathBytesMax) return `is longer than ${pathBytesMax} bytes`
  if (forbidden.test(path)) return 'has a control character or one of < > : " | ? * \\'
  if (invisible.test(path)) return 'has an invisible or direction-changing character'
  if (!ascii.test(path) && path.normalize('NFC') !== path) return 'is not in Unicode form NFC'
  const segments = path.split('/')
  if (segments.length > segmentsMax) return `has more than ${segmentsMax} segments`
  for (const segment of segments) {
    const broken = brokenSegmentRule(segment)
    if (broken !== undefined) return broken
  }
  return undefined
}

function brokenSegmentRule(segment: string): string | undefined {
  if (segment === '') return 'has an empty segment, or a slash at an end'
  if (segment === '.' || segment === '..') return 'has a segment that is . or ..'
  if (Buffer.byteLength(segment) > segmentBytesMax) {
    return `has a segment of more than ${segmentBytesMax} bytes`
  }
  if (segment.startsWith(' ') || segment.startsWith('-')) {
    return 'has a segment that starts with a space or a dash'
  }
  if (segment.endsWith(' ') || segment.endsWith('.')) {
    return 'has a segment that ends with a space or a dot'
  }
  if (device.test(segment)) return 'has a segment that is a device on Windows'
  if (/~[0-9]/u.test(segment)) return 'has a segment like a short name of Windows (~1)'
  if (segment.toLowerCase() === '.git') return 'has a segment that is .git'
  return undefined
}
