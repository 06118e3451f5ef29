/** What lies in model folders and is no part of the model. The list is short and says why. */

interface IgnoreRule {
  readonly kind: 'folder' | 'file' | 'suffix'
  /** A name, a path's last two names, or how a file's name ends. */
  readonly name: string
  readonly why: string
}

export const ignoreRules: readonly IgnoreRule[] = [
  { kind: 'folder', name: '.git', why: 'history of a clone, with a second copy of everything' },
  { kind: 'file', name: '.git', why: 'where the history of a linked worktree lies' },
  { kind: 'folder', name: '.commonweight', why: 'our own unfinished downloads' },
  { kind: 'folder', name: '.cache/huggingface', why: 'bookkeeping of hf download, with times' },
  { kind: 'file', name: '.DS_Store', why: 'how macOS shows the folder' },
  { kind: 'file', name: 'Thumbs.db', why: 'how Windows shows the folder' },
  { kind: 'file', name: 'desktop.ini', why: 'how Windows shows the folder' },
  { kind: 'suffix', name: '.part', why: 'an unfinished download' },
  { kind: 'suffix', name: '.incomplete', why: 'an unfinished download of hf' },
  { kind: 'suffix', name: '.crdownload', why: 'an unfinished download of a browser' },
  { kind: 'suffix', name: '.aria2', why: 'the state of an unfinished download' },
]

const folders = namesOf('folder')
const files = namesOf('file')
const suffixes = [...namesOf('suffix')]

function namesOf(kind: IgnoreRule['kind']): ReadonlySet<string> {
  return new Set(ignoreRules.filter(rule => rule.kind === kind).map(rule => rule.name))
}

/** Whether a folder is left out: by its name, or by its parent's and its own. */
export function isIgnoredFolder(parent: string, name: string): boolean {
  return folders.has(name) || folders.has(`${parent}/${name}`)
}

export function isIgnoredFile(name: string): boolean {
  return files.has(name) || suffixes.some(suffix => name.endsWith(suffix))
}
