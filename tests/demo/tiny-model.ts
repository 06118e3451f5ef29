/**
 * A character model small enough to train in a second, for machines that cannot fetch a real one: a
 * log-linear model over hashed contexts of 1 to 5 characters, trained by gradient descent on the
 * project's own documents and saved as safetensors. Five tensors of 1 MiB, so that it makes chunks.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const ordersMax = 5
const buckets = 4096
/** Printable ASCII from space to underscore of the folded text: 64 symbols. */
const symbols = 64
const learningRate = 0.2
const passes = 12

/** One tensor an order: `buckets` rows of `symbols` scores. */
type Weights = readonly Float32Array[]

/** Folds text to 64 symbols: lower case becomes upper case, everything else a space. */
function encodeText(text: string): Uint8Array {
  const folded = Buffer.from(text.replaceAll(/\s+/g, ' ').toUpperCase(), 'latin1')
  return Uint8Array.from(folded, code => (code >= 32 && code < 32 + symbols ? code - 32 : 0))
}

/** The row of each order's tensor that the characters before `end` select. */
function rowsAt(text: ArrayLike<number>, end: number): number[] {
  const rows: number[] = []
  let hash = 0x811c9dc5
  for (let order = 0; order < ordersMax; order += 1) {
    hash = Math.imul(hash ^ (text[end - 1 - order] ?? 0), 0x01000193) >>> 0
    rows.push((hash >>> 8) % buckets)
  }
  return rows
}

/** Probabilities of the next symbol. */
function predict(weights: Weights, rows: readonly number[]): Float64Array {
  const scores = new Float64Array(symbols)
  for (const [order, row] of rows.entries()) {
    const tensor = weights[order] as Float32Array
    for (let s = 0; s < symbols; s += 1)
      scores[s] = (scores[s] ?? 0) + (tensor[row * symbols + s] ?? 0)
  }
  const top = Math.max(...scores)
  let sum = 0
  for (let s = 0; s < symbols; s += 1) sum += scores[s] = Math.exp((scores[s] ?? 0) - top)
  return scores.map(score => score / sum)
}

/** One step of gradient descent on the symbol at `end`. */
function learn(weights: Weights, text: Uint8Array, end: number): void {
  const rows = rowsAt(text, end)
  const gradient = predict(weights, rows)
  const actual = text[end] ?? 0
  gradient[actual] = (gradient[actual] ?? 0) - 1
  for (const [order, row] of rows.entries()) {
    const scores = (weights[order] as Float32Array).subarray(row * symbols, (row + 1) * symbols)
    for (let s = 0; s < symbols; s += 1) {
      scores[s] = (scores[s] ?? 0) - learningRate * (gradient[s] ?? 0)
    }
  }
}

function train(text: Uint8Array): Weights {
  const weights = Array.from({ length: ordersMax }, () => new Float32Array(buckets * symbols))
  for (let pass = 0; pass < passes; pass += 1) {
    for (let end = ordersMax; end < text.length; end += 1) learn(weights, text, end)
  }
  return weights
}

/** Trains on the text files given and writes config.json, README.md and model.safetensors. */
export function trainTinyModel(folder: string, corpus: readonly string[]): void {
  const weights = train(encodeText(corpus.map(path => readFileSync(path, 'utf8')).join(' ')))
  const bytes = buckets * symbols * 4
  const header = Object.fromEntries(
    weights.map((_, order) => [
      `order.${order + 1}`,
      {
        dtype: 'F32',
        shape: [buckets, symbols],
        data_offsets: [order * bytes, (order + 1) * bytes],
      },
    ]),
  )
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  mkdirSync(folder, { recursive: true })
  const tensors = weights.map(tensor => Buffer.from(tensor.buffer))
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, json, ...tensors]))
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ordersMax, buckets, symbols }))
  writeFileSync(join(folder, 'README.md'), '# A tiny character model, trained by the demo\n')
}

/** Loads a model that trainTinyModel wrote and continues a prompt; the same seed gives the same text. */
export function generate(folder: string, prompt: string, length: number): string {
  const file = readFileSync(join(folder, 'model.safetensors'))
  const start = 8 + Number(file.readBigUInt64LE(0))
  const bytes = buckets * symbols * 4
  const weights = Array.from({ length: ordersMax }, (_, order) => {
    const from = start + order * bytes
    // A copy, because the tensors need not be aligned in the file.
    return new Float32Array(Uint8Array.from(file.subarray(from, from + bytes)).buffer)
  })
  const text = [...encodeText(prompt)]
  let state = 0x2545f491
  for (let n = 0; n < length; n += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    let left = (state >>> 0) / 2 ** 32
    const next = predict(weights, rowsAt(text, text.length)).findIndex(p => (left -= p) <= 0)
    text.push(Math.max(0, next))
  }
  return String.fromCharCode(...text.map(code => code + 32)).toLowerCase()
}
