/** The manifests of a registry, byte for byte: docs/spec/oci.md sections 4 and 5. */

import { hash } from 'node:crypto'
import type { GitFile } from '../../../src/manifest/git-commit.ts'
import type { Companions, Weights } from './weights.ts'

/** Some bytes that are made here, and their name. */
export interface NamedText {
  readonly type: string
  readonly text: string
  /** 64 digits. */
  readonly sha256: string
}

export const mediaTypes = {
  oci: 'application/vnd.oci.image.manifest.v1+json',
  docker: 'application/vnd.docker.distribution.manifest.v2+json',
  json: 'application/json',
} as const

/** The config of a model that is nothing but its files. */
export const emptyConfig = named('application/vnd.oci.empty.v1+json', '{}')

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

export function named(type: string, text: string): NamedText {
  return { type, text, sha256: hash('sha256', text) }
}

/** Each file a layer, titled with its path. */
export function ociManifest(files: readonly GitFile[], manifest: string): NamedText {
  const body = {
    schemaVersion: 2,
    mediaType: mediaTypes.oci,
    artifactType: 'application/vnd.commonweight.model.v1',
    config: textDescriptor(emptyConfig),
    layers: files.map(file => ({
      ...descriptor('application/octet-stream', file),
      annotations: { 'org.opencontainers.image.title': file.path },
    })),
    annotations: { 'org.commonweight.manifest': manifest },
  }
  return named(mediaTypes.oci, JSON.stringify(body))
}

/** What `ollama pull` reads. */
export function ollamaManifest(
  model: GitFile,
  companions: Companions,
  config: NamedText,
): NamedText {
  const layers = [
    ['model', model],
    ['projector', companions.projector],
    ['license', companions.license],
    ['template', companions.template],
    ['system', companions.system],
    ['params', companions.params],
  ] as const
  const body = {
    schemaVersion: 2,
    mediaType: mediaTypes.docker,
    config: textDescriptor(config),
    layers: layers.flatMap(([kind, file]) =>
      file === undefined ? [] : [descriptor(`application/vnd.ollama.image.${kind}`, file)],
    ),
  }
  return named(mediaTypes.docker, JSON.stringify(body))
}

/** What llama.cpp read before it read the tree, and programs that learnt from it still do. */
export function llamaManifest({ files }: Weights, { projector }: Companions): NamedText {
  const body = {
    schemaVersion: 2,
    ggufFile: hubFile(files[0]),
    ...(projector === undefined ? {} : { mmprojFile: hubFile(projector) }),
  }
  return named(mediaTypes.json, JSON.stringify(body))
}

function hubFile({ isLfs, oid, path, pointerSize, sha256, size }: GitFile): object {
  const lfs = isLfs ? { lfs: { sha256, size, pointerSize } } : {}
  return { rfilename: path, size, blobId: oid, ...lfs }
}

function descriptor(mediaType: string, { sha256, size }: GitFile): Descriptor {
  return { mediaType, digest: `sha256:${sha256}`, size }
}

function textDescriptor({ sha256, text, type }: NamedText): Descriptor {
  return { mediaType: type, digest: `sha256:${sha256}`, size: Buffer.byteLength(text) }
}
