/**
 * The registry face of the gateway: the read side of the OCI distribution API, so that Ollama, skopeo
 * and their kin fetch models by the same names. docs/spec/oci.md.
 */

import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyReply } from 'fastify'
import { isAbort, UnavailableError } from '../../../src/core/errors.ts'
import { minute } from '../../../src/core/units.ts'
import { goneSignal } from '../hub/body.ts'
import { type FileHead, rangedHead } from '../hub/file-answer.ts'
import type { GitCommit, GitFile } from '../../../src/manifest/git-commit.ts'
import type { Answer } from '../hub/refusal.ts'
import type { Repositories } from '../hub/repositories.ts'
import { isRevision, type Repository } from '../hub/repository.ts'
import { type Exchange, send, type SendDeps, sendFile, sendText } from '../hub/send.ts'
import { type Asker, Images } from './images.ts'
import { mediaTypes, type NamedText } from './manifests.ts'
import { registryError, versionHeader } from './refusal.ts'
import { parseDigest, type RegistryTarget } from './target.ts'
import { defaultWeights, findWeights, type Weights } from './weights.ts'

export interface RegistryDeps extends SendDeps {
  readonly repositories: Repositories
}

/**
 * For the first byte of what is not here. These clients have no patience of their own that is shorter,
 * except Ollama's for each part of a blob: 30 s, after which it asks again as if nothing had been.
 */
const patienceMs = minute

type RepositoryTarget = Extract<RegistryTarget, { names: unknown }>

export class Registry {
  readonly #deps: RegistryDeps
  readonly #images = new WeakMap<GitCommit, Images>()

  constructor(deps: RegistryDeps) {
    this.#deps = deps
  }

  async answer(target: RegistryTarget, exchange: Exchange): Promise<FastifyReply> {
    const { reply } = exchange
    if (target.kind === 'none') return send(reply, noRoute)
    if (target.kind === 'root')
      return send(reply, { status: 200, headers: versionHeader, body: {} })
    const gone = goneSignal(reply.raw)
    const found = await this.#deps.repositories.find(target.names, gone, patienceMs)
    if (found === undefined) {
      const message = `no model ${target.names[0]?.name ?? ''} is known here`
      return send(reply, registryError(404, 'NAME_UNKNOWN', message))
    }
    const signal = AbortSignal.any([gone, AbortSignal.timeout(patienceMs)])
    const asker = { model: found.repository.model, signal }
    try {
      return await this.#answer(target, { ...exchange, repository: found.repository, asker })
    } catch (error) {
      if (gone.aborted || !isAbort(error)) throw error
      throw new UnavailableError(`nobody has served the header of ${asker.model.name} yet`)
    }
  }

  async #answer(target: RepositoryTarget, question: Question): Promise<FastifyReply> {
    switch (target.kind) {
      case 'tags':
        return send(question.reply, this.#tags(question))
      case 'manifest':
        return this.#manifest(target.reference, question)
      case 'blob':
        return this.#blob(target.digest, question)
    }
  }

  #imagesOf(repository: Repository): Images {
    const known = this.#images.get(repository.commit)
    if (known !== undefined) return known
    const images = new Images(this.#deps.gateway, repository)
    this.#images.set(repository.commit, images)
    return images
  }

  #tags({ repository, request }: Question): Answer {
    const { weights } = this.#imagesOf(repository)
    const all = ['latest', ...weights.map(({ tag }) => tag)].toSorted()
    const query = new URL(request.raw.url ?? '', 'http://gateway').searchParams
    const last = query.get('last') ?? ''
    const count = query.get('n') ?? ''
    const rest = all.filter(tag => tag > last)
    const tags = /^\d{1,6}$/u.test(count) ? rest.slice(0, Number(count)) : rest
    const { name } = repository.model
    const headers: Record<string, string> = { ...versionHeader }
    const end = tags.at(-1)
    if (end !== undefined && tags.length < rest.length) {
      headers['link'] = `</v2/${name}/tags/list?n=${count}&last=${end}>; rel="next"`
    }
    return { status: 200, headers, body: { name, tags } }
  }

  async #manifest(reference: string, question: Question): Promise<FastifyReply> {
    const { asker, repository, reply, request } = question
    const images = this.#imagesOf(repository)
    const sha256 = parseDigest(reference)
    if (sha256 !== undefined) {
      const text = await images.manifestOf(sha256, asker)
      return text === undefined
        ? send(reply, unknownManifest(reference, repository))
        : sendManifest(text, question)
    }
    const isDefault = reference.toLowerCase() === 'latest' || isRevision(repository, reference)
    const flavour = flavourOf(request.headers)
    const weights = isDefault
      ? defaultWeights(images.weights)
      : findWeights(images.weights, reference)
    if (flavour === 'oci') {
      if (!isDefault && weights === undefined) {
        return send(reply, unknownManifest(reference, repository))
      }
      return sendManifest(images.oci(isDefault ? undefined : weights), question)
    }
    const refusal = refuseWeights(weights, { reference, images, flavour })
    if (weights === undefined || refusal !== undefined) {
      return send(reply, refusal ?? unknownManifest(reference, repository))
    }
    const text = flavour === 'llama' ? images.llama(weights) : await images.ollama(weights, asker)
    return sendManifest(text, question)
  }

  async #blob(text: string, question: Question): Promise<FastifyReply> {
    const { asker, reply, repository, request } = question
    const sha256 = parseDigest(text)
    if (sha256 === undefined) {
      return send(reply, registryError(400, 'DIGEST_INVALID', 'a digest is sha256: and 64 digits'))
    }
    const found = await this.#imagesOf(repository).blobOf(sha256, asker)
    if (found === undefined) {
      const message = `no blob sha256:${sha256} in ${repository.model.name}`
      return send(reply, registryError(404, 'BLOB_UNKNOWN', message))
    }
    const head = blobHead({ sha256, size: sizeOf(found) }, request)
    if ('text' in found) return sendText({ head, text: found.text }, question)
    const { model } = repository
    // It asks once without a range, for the address alone, and gives it half a minute.
    const isHeadFirst = head.status === 200 && isOllama(request.headers)
    const sent = { head, model, file: found.file, patienceMs, isHeadFirst }
    return sendFile(this.#deps, sent, question)
  }
}

interface Question extends Exchange {
  readonly repository: Repository
  readonly asker: Asker
}

const noRoute = registryError(404, 'UNSUPPORTED', 'no such route: this registry only reads')

/** Which of the three manifests of some weights is meant. */
type Flavour = 'llama' | 'oci' | 'ollama'

function flavourOf({ accept = '', 'user-agent': agent = '' }: IncomingHttpHeaders): Flavour {
  if (accept.includes(mediaTypes.oci)) return 'oci'
  if (accept.includes(mediaTypes.docker)) return 'ollama'
  return agent.includes('llama-cpp') && accept.includes('json') ? 'llama' : 'oci'
}

function isOllama({ 'user-agent': agent = '' }: IncomingHttpHeaders): boolean {
  return agent.startsWith('ollama/')
}

/** Ollama shows what a 400 says; a 404 is "file does not exist" to it, whatever it says. */
function refuseWeights(
  weights: Weights | undefined,
  { flavour, images, reference }: { flavour: Flavour; images: Images; reference: string },
): Answer | undefined {
  if (weights === undefined) {
    const tags = images.weights.map(({ tag }) => tag)
    const message =
      tags.length === 0
        ? 'the model has no GGUF file, and Ollama runs nothing else'
        : `no weights ${reference}: there are ${tags.slice(0, 20).join(', ')}`
    return registryError(400, 'MANIFEST_UNKNOWN', message)
  }
  return flavour === 'ollama' && weights.isSharded
    ? registryError(400, 'UNSUPPORTED', `${weights.tag} is in shards, which Ollama does not join`)
    : undefined
}

function unknownManifest(reference: string, { model }: Repository): Answer {
  return registryError(404, 'MANIFEST_UNKNOWN', `no manifest ${reference} of ${model.name}`)
}

function sendManifest({ sha256, text, type }: NamedText, question: Question): FastifyReply {
  const headers = { ...versionHeader, 'content-type': type, ...digestHeader(sha256) }
  const bytes = { etag: `sha256:${sha256}`, size: Buffer.byteLength(text), headers }
  return sendText({ head: rangedHead(bytes, question.request.headers), text }, question)
}

function blobHead(
  { sha256, size }: { readonly sha256: string; readonly size: number },
  { headers: asked, raw }: Exchange['request'],
): FileHead {
  const headers = {
    ...versionHeader,
    ...digestHeader(sha256),
    'content-type': 'application/octet-stream',
    'content-disposition': 'attachment',
    'content-security-policy': "sandbox; default-src 'none'",
  }
  const head = rangedHead({ etag: `sha256:${sha256}`, size, headers }, asked)
  if (head.status !== 200) return head
  // Ollama asks where the bytes are before it asks for them, and fails without an answer.
  const [place = ''] = (raw.url ?? '').split('?', 1)
  return { ...head, headers: { ...head.headers, location: place } }
}

function digestHeader(sha256: string): { readonly 'docker-content-digest': string } {
  return { 'docker-content-digest': `sha256:${sha256}` }
}

function sizeOf(blob: GitFile | NamedText): number {
  return 'text' in blob ? Buffer.byteLength(blob.text) : blob.size
}
