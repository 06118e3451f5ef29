/** The manifests and made blobs of one model: which there are, and the GGUF headers they follow from. */

import { InvalidInputError, LimitError } from '../../../src/core/errors.ts'
import { MiB } from '../../../src/core/units.ts'
import type { Gateway, NamedModel } from '../../../src/node.ts'
import type { GitFile } from '../../../src/manifest/git-commit.ts'
import type { Repository } from '../hub/repository.ts'
import { fileSource } from './file-source.ts'
import {
  emptyConfig,
  llamaManifest,
  named,
  type NamedText,
  ociManifest,
  ollamaManifest,
} from './manifests.ts'
import { ollamaConfig } from './ollama-config.ts'
import { type Beside, besideOf, companionsOf, type Weights, weightsOf } from './weights.ts'

/** Clients read no larger manifest, and other registries take none. */
export const manifestBytesMax = 4 * MiB

/** By what name the model was asked for, and until when an answer is of use. */
export interface Asker {
  readonly model: NamedModel
  readonly signal: AbortSignal
}

/** Everything of a model that has a digest in a registry. */
export class Images {
  readonly weights: readonly Weights[]
  readonly #gateway: Gateway
  readonly #manifest: string
  readonly #files: readonly GitFile[]
  readonly #beside: Beside
  readonly #bySha256 = new Map<string, GitFile>()
  /** By the SHA-256 of the file, about 300 bytes each; undefined when it is no GGUF. */
  readonly #configs = new Map<string, NamedText | undefined>()
  /** What the OCI manifest of each digest is of; undefined: of all files. */
  #ociOf: Map<string, Weights | undefined> | undefined

  constructor(gateway: Gateway, { commit, model }: Repository) {
    this.#gateway = gateway
    this.#manifest = model.manifest.toString()
    this.#files = [...commit.entries.values()].filter(entry => entry.kind === 'file')
    for (const file of this.#files) this.#bySha256.set(file.sha256, file)
    this.#beside = besideOf(this.#files)
    this.weights = weightsOf(this.#files)
  }

  /** Of all files, or of those that go with some weights. */
  oci(weights?: Weights): NamedText {
    const text = this.#oci(weights)
    if (text.text.length <= manifestBytesMax) return text
    throw new LimitError('the model has too many files for one manifest', {
      hint: 'read it as a hub: commonweight run',
    })
  }

  llama(weights: Weights): NamedText {
    return llamaManifest(weights, companionsOf(this.#beside, weights))
  }

  /** Reads the header of the weights, which may have to be fetched. */
  async ollama(weights: Weights, asker: Asker): Promise<NamedText> {
    const [file] = weights.files
    const config = await this.#config(file, asker)
    if (config === undefined) throw new InvalidInputError(`${file.path} is no GGUF`)
    return ollamaManifest(file, companionsOf(this.#beside, weights), config)
  }

  async manifestOf(sha256: string, asker: Asker): Promise<NamedText | undefined> {
    // Worked out once: whoever asks for digests that are not there must not have all of them made anew.
    this.#ociOf ??= new Map(
      [undefined, ...this.weights].map(each => [this.#oci(each).sha256, each]),
    )
    if (this.#ociOf.has(sha256)) return this.#oci(this.#ociOf.get(sha256))
    for await (const { config, weights } of this.#configsHere(asker)) {
      const text = ollamaManifest(weights.files[0], companionsOf(this.#beside, weights), config)
      if (text.sha256 === sha256) return text
    }
    return undefined
  }

  async blobOf(sha256: string, asker: Asker): Promise<GitFile | NamedText | undefined> {
    const file = this.#bySha256.get(sha256)
    if (file !== undefined) return file
    if (sha256 === emptyConfig.sha256) return emptyConfig
    for await (const { config } of this.#configsHere(asker)) {
      if (config.sha256 === sha256) return config
    }
    return undefined
  }

  /**
   * Those that were made before, then those of files that are here: a digest that nobody gave out must not
   * have every file fetched. Ollama takes no shards.
   */
  async *#configsHere(
    asker: Asker,
  ): AsyncGenerator<{ readonly weights: Weights; readonly config: NamedText }> {
    const whole = this.weights.filter(({ isSharded }) => !isSharded)
    const isKnown = ({ files }: Weights): boolean => this.#configs.has(files[0].sha256)
    for (const weights of [...whole.filter(isKnown), ...whole.filter(each => !isKnown(each))]) {
      const config = await this.#config(weights.files[0], { ...asker, isHere: true })
      if (config !== undefined) yield { weights, config }
    }
  }

  #oci(weights: Weights | undefined): NamedText {
    if (weights === undefined) return ociManifest(this.#files, this.#manifest)
    const { license, params, projector, system, template } = companionsOf(this.#beside, weights)
    const others = [projector, license, template, system, params]
    const files = [...weights.files, ...others.filter(file => file !== undefined)]
    return ociManifest(files, this.#manifest)
  }

  async #config(
    file: GitFile,
    { model, signal, isHere = false }: Asker & { readonly isHere?: boolean },
  ): Promise<NamedText | undefined> {
    if (this.#configs.has(file.sha256)) return this.#configs.get(file.sha256)
    using opened = this.#gateway.open(model, file.file)
    if (isHere && !opened.isWhole) return undefined
    const text = await ollamaConfig(fileSource(opened, file.size, signal)).catch(noGguf)
    const config = text === undefined ? undefined : named(configType, text)
    this.#configs.set(file.sha256, config)
    return config
  }
}

const configType = 'application/vnd.docker.container.image.v1+json'

function noGguf(error: unknown): undefined {
  if (!(error instanceof InvalidInputError)) throw error
}
