/** Caches as other programs leave them: of huggingface_hub in its layouts, and of Ollama. */

import { createHash } from 'node:crypto'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { systemCode } from '../../src/core/errors.ts'
import { gitOid } from '../../src/core/git.ts'

export interface CachedFile {
  readonly bytes: Uint8Array | string
  /** Whether the hub keeps it in LFS; `.safetensors` and `.bin` when left out. */
  readonly lfs?: boolean
}

export interface HubCacheOptions {
  readonly commit?: string
  /** links: snapshots of links. shared: the blobs are links too. files: no links at all. */
  readonly layout?: 'files' | 'links' | 'shared'
  /** Write what the commit has to `trees/`; with `lacking`, files that are not here. */
  readonly tree?: boolean
  readonly lacking?: Readonly<Record<string, CachedFile | string>>
  /** Where `refs/main` points; the commit when left out. */
  readonly main?: string | undefined
}

export const someCommit = 'c0ffee0000000000000000000000000000000001'

/** Adds a snapshot of `models--ORG--NAME`, or another kind of repository, and returns its folder. */
export async function writeSnapshot(
  root: string,
  repoFolder: string,
  files: Readonly<Record<string, CachedFile | string>>,
  options: HubCacheOptions = {},
): Promise<string> {
  const { commit = someCommit, layout = 'links' } = options
  const repo = join(root, repoFolder)
  const snapshot = join(repo, 'snapshots', commit)
  for (const [path, file] of Object.entries(files)) {
    const place = join(snapshot, ...path.split('/'))
    await mkdir(dirname(place), { recursive: true })
    const { bytes } = asFile(file)
    if (layout === 'files') {
      await writeFile(place, bytes)
      continue
    }
    const blob = join(repo, 'blobs', etagOf(path, file))
    await mkdir(dirname(blob), { recursive: true })
    if (layout === 'links') await writeNew(blob, bytes)
    else {
      const xet = sha256(`xet ${etagOf(path, file)}`)
      const shared = join(root, 'blobs', xet.slice(0, 2), xet)
      await mkdir(dirname(shared), { recursive: true })
      await writeNew(shared, bytes)
      await symlink(relative(dirname(blob), shared), blob).catch(() => undefined)
    }
    await symlink(relative(dirname(place), blob), place)
  }
  await mkdir(join(repo, 'refs'), { recursive: true })
  await writeFile(join(repo, 'refs', 'main'), options.main ?? commit)
  if (options.tree === true) {
    await mkdir(join(repo, 'trees'), { recursive: true })
    const listed = { ...files, ...options.lacking }
    await writeFile(join(repo, 'trees', `${commit}.json`), treeOf(listed))
  }
  return snapshot
}

/** A blob that is there is not fetched again. */
async function writeNew(place: string, bytes: Uint8Array | string): Promise<void> {
  try {
    await writeFile(place, bytes, { flag: 'wx' })
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
}

/** As huggingface_hub writes it. */
export function treeOf(files: Readonly<Record<string, CachedFile | string>>): string {
  const entries = Object.entries(files).map(([path, file]) => {
    const bytes = Buffer.from(asFile(file).bytes)
    const size = bytes.length
    if (!isLfs(path, file)) return [path, { size, blob_id: gitOid('blob', bytes) }]
    const lfs = sha256(bytes)
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${lfs}\nsize ${size}\n`
    const blob_id = gitOid('blob', Buffer.from(pointer))
    return [path, { size, blob_id, lfs_sha256: lfs, lfs_size: size }]
  })
  return JSON.stringify({ format_version: 1, files: Object.fromEntries(entries) as unknown })
}

/** The name of a file's blob: its SHA-256 in LFS, else what git calls it. */
export function etagOf(path: string, file: CachedFile | string): string {
  const bytes = Buffer.from(asFile(file).bytes)
  return isLfs(path, file) ? sha256(bytes) : gitOid('blob', bytes)
}

function isLfs(path: string, file: CachedFile | string): boolean {
  return asFile(file).lfs ?? /\.(?:safetensors|bin|gguf)$/.test(path)
}

function asFile(file: CachedFile | string): CachedFile {
  return typeof file === 'string' ? { bytes: file } : file
}

export interface OllamaLayer {
  /** The last word of its media type. */
  readonly kind: string
  readonly bytes: Uint8Array | string
  readonly name?: string
}

/** Adds a model to a store of Ollama and returns the place of its manifest. */
export async function writeOllamaModel(
  root: string,
  /** As in `registry.ollama.ai/library/llama3/8b`. */
  path: string,
  layers: readonly OllamaLayer[],
): Promise<string> {
  const listed = []
  await mkdir(join(root, 'blobs'), { recursive: true })
  for (const { kind, bytes, name } of layers) {
    const digest = sha256(bytes)
    await writeFile(join(root, 'blobs', `sha256-${digest}`), bytes)
    const mediaType = `application/vnd.ollama.image.${kind}`
    const size = Buffer.from(bytes).length
    listed.push({ mediaType, digest: `sha256:${digest}`, size, ...(name && { name }) })
  }
  const place = join(root, 'manifests', path)
  await mkdir(dirname(place), { recursive: true })
  const config = { mediaType: 'application/vnd.docker.container.image.v1+json', size: 2 }
  await writeFile(
    place,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
      config: { ...config, digest: `sha256:${sha256('{}')}` },
      layers: listed,
    }),
  )
  return place
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}
