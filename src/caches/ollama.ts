/**
 * The store of Ollama: blobs named by their SHA-256, and a manifest for each name and tag that says
 * which of them a model has.
 *
 *   manifests/HOST/NAMESPACE/MODEL/TAG
 *   blobs/sha256-HEX
 *
 * A model gets the files that clients of a hub look for: weights as GGUF, and beside them what Ollama
 * keeps apart (`template`, `params`, `system`, `LICENSE`), under the names that a hub's repository may
 * give Ollama them by, and our own registry does.
 */

import { join, relative, sep } from 'node:path'
import { CommonweightError, InvalidInputError, LimitError } from '../core/errors.ts'
import { MiB } from '../core/units.ts'
import { shown } from '../ingest/file-errors.ts'
import type { FoundFile } from '../ingest/folder.ts'
import { parsePath } from '../manifest/paths.ts'
import { Enclosure, entriesOf, readSmallJson } from './enclosure.ts'
import type { FileClaim, FoundEntry, ReadOptions } from './found.ts'
import { isRecord } from './hub-tree.ts'

/** A model of 10,000 tensors that are a layer each takes 2 MiB. */
const manifestBytesMax = 4 * MiB
const layersMax = 20_000
/** HOST, NAMESPACE, MODEL and TAG, and one folder more between them. */
const manifestDepthMax = 5
/** Names and tags; a person has a hundred. */
const manifestsMax = 10_000

const layerType = /^application\/vnd\.ollama\.image\.([a-z]+)$/
const digestPattern = /^sha256:([0-9a-f]{64})$/

interface Layer {
  /** The last word of its media type: `model`, `template`. */
  readonly kind: string
  readonly sha256: string
  readonly size: number
  readonly name: string | undefined
}

/** Nothing when there is no such folder. Throws StorageError when it cannot be read. */
export async function readOllama(
  folder: string,
  { signal }: ReadOptions = {},
): Promise<FoundEntry[]> {
  const cache = await Enclosure.open(folder)
  if (cache === undefined) return []
  const manifests = join(cache.root, 'manifests')
  const found: FoundEntry[] = []
  for (const place of await manifestsBelow(manifests, 1)) {
    signal?.throwIfAborted()
    if (found.length >= manifestsMax) throw new LimitError(`more than ${manifestsMax} models`)
    const entry = await readModel(cache, place, nameOf(relative(manifests, place).split(sep)))
    if (entry !== undefined) found.push(entry)
  }
  return found
}

async function manifestsBelow(folder: string, depth: number): Promise<string[]> {
  const places: string[] = []
  for (const entry of await entriesOf(folder)) {
    if (entry.name.startsWith('.')) continue
    const place = join(folder, entry.name)
    if (!entry.isDirectory()) places.push(place)
    else if (depth < manifestDepthMax) places.push(...(await manifestsBelow(place, depth + 1)))
  }
  return places
}

/** Hubs whose repositories Ollama fetches: the same model has this name there. */
const hubHosts: ReadonlySet<string> = new Set(['hf.co', 'huggingface.co'])

/**
 * `llama3:8b` becomes `llama3-8b`, as a colon is in no name that clients of a hub can ask for;
 * `:latest` goes, as do Ollama's own host and namespace.
 */
export function nameOf(segments: readonly string[]): string | undefined {
  const tag = segments.at(-1)
  const [host, ...model] = segments.slice(0, -1)
  if (tag === undefined || host === undefined || model.length === 0) return undefined
  const isOllama = host === 'registry.ollama.ai'
  const own = isOllama && model[0] === 'library' ? model.slice(1) : model
  const path = (isOllama || hubHosts.has(host) ? own : [host, ...own]).join('/')
  return tag === 'latest' ? path : `${path}-${tag}`
}

/** Undefined for what is no manifest of a model. */
async function readModel(
  cache: Enclosure,
  place: string,
  name: string | undefined,
): Promise<FoundEntry | undefined> {
  const about = { cache: 'ollama', title: name ?? place, name, folder: place } as const
  try {
    const real = await cache.resolve(place)
    if (real === undefined) return undefined
    const layers = layersOf(await readSmallJson(real, manifestBytesMax))
    if (layers === undefined || layers.length === 0) return undefined
    const paths = pathsOf(layers)
    const files: FoundFile[] = []
    const claims = new Map<string, FileClaim>()
    for (const [index, { sha256, size }] of layers.entries()) {
      const path = parsePath(paths[index] as string)
      if (claims.has(path)) throw new InvalidInputError(`two layers are called ${shown(path)}`)
      files.push(await blobOf(cache, path, { sha256, size }))
      claims.set(path, { gitOid: undefined, sha256 })
    }
    const rest = {
      files,
      claims,
      commit: undefined,
      whole: undefined,
      isPart: false,
      remark: undefined,
    }
    return { kind: 'model', ...about, family: place, ...rest }
  } catch (error) {
    if (!(error instanceof CommonweightError)) throw error
    return { kind: 'refused', ...about, reason: error.message }
  }
}

function layersOf(manifest: unknown): Layer[] | undefined {
  if (!isRecord(manifest) || manifest['schemaVersion'] !== 2) return undefined
  const { layers } = manifest
  if (!Array.isArray(layers)) return undefined
  if (layers.length > layersMax) throw new LimitError(`more than ${layersMax} layers`)
  return layers.map(layerOf)
}

function layerOf(layer: unknown): Layer {
  const { mediaType, digest, size, name } = isRecord(layer) ? layer : {}
  const kind = typeof mediaType === 'string' ? layerType.exec(mediaType)?.[1] : undefined
  const sha256 = typeof digest === 'string' ? digestPattern.exec(digest)?.[1] : undefined
  const isSize = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0
  if (kind === undefined || sha256 === undefined || !isSize) {
    throw new InvalidInputError('its manifest has a layer that is not of Ollama')
  }
  return { kind, sha256, size, name: typeof name === 'string' ? name : undefined }
}

const weightNames: Readonly<Record<string, string>> = { model: 'model', projector: 'mmproj' }
/** What a repository calls its licence. */
const otherNames: Readonly<Record<string, string>> = { license: 'LICENSE' }

/** A path for each layer: its own name, or one that follows from what it is. */
function pathsOf(layers: readonly Layer[]): string[] {
  const counts = new Map<string, number>()
  const totals = new Map<string, number>()
  for (const { kind, name } of layers) {
    if (name === undefined) totals.set(kind, (totals.get(kind) ?? 0) + 1)
  }
  return layers.map(({ kind, name }) => {
    if (name !== undefined) return name
    const number = (counts.get(kind) ?? 0) + 1
    counts.set(kind, number)
    const total = totals.get(kind) ?? 0
    const weights = weightNames[kind]
    const other = otherNames[kind] ?? kind
    if (weights === undefined) return number === 1 ? other : `${other}-${number}`
    if (total === 1) return `${weights}.gguf`
    const digits = (value: number): string => String(value).padStart(5, '0')
    return `${weights}-${digits(number)}-of-${digits(total)}.gguf`
  })
}

async function blobOf(
  cache: Enclosure,
  path: string,
  { sha256, size }: { readonly sha256: string; readonly size: number },
): Promise<FoundFile> {
  const blobs = join(cache.root, 'blobs')
  // With a colon until 2024.
  const file =
    (await cache.file(path, join(blobs, `sha256-${sha256}`))) ??
    (await cache.file(path, join(blobs, `sha256:${sha256}`)))
  if (file === undefined) throw new InvalidInputError(`the blob of its ${path} is gone`)
  if (file.size === size) return file
  throw new InvalidInputError(`the blob of its ${path} has ${file.size} bytes, not ${size}`)
}
