/** The digests that docs/spec/oci.md promises: whoever changes one breaks what others have copied. */

import { expect, test } from 'vitest'
import {
  emptyConfig,
  named,
  ociManifest,
  ollamaManifest,
} from '../../../../../daemon/http/oci/manifests.ts'
import { ollamaConfig } from '../../../../../daemon/http/oci/ollama-config.ts'
import {
  besideOf,
  companionsOf,
  type Weights,
  weightsOf,
} from '../../../../../daemon/http/oci/weights.ts'
import { memorySource } from '../../../../../src/core/bytes.ts'
import { InvalidInputError } from '../../../../../src/core/errors.ts'
import type { GitFile } from '../../../../../src/manifest/git-commit.ts'
import { ggufFile, ggufString, keyValue, u32 } from '../../../../support/weight-files.ts'

function file(path: string, digit: string, size: number): GitFile {
  const oid = digit.repeat(40)
  const whole = { kind: 'file', path, oid, sha256: digit.repeat(64), size, pointerSize: 130 }
  return whole as unknown as GitFile
}
const weights = file('m-Q8_0.gguf', 'a', 2 ** 33)
const files = [file('LICENSE', 'b', 7), weights, file('sub/ä "x".json', 'c', 0)]

test('the empty config is that of the specification', () => {
  expect(emptyConfig.sha256).toBe(
    '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
  )
})

test('the OCI manifest of some files, byte for byte', () => {
  expect(ociManifest(files, 'bafyexample').text).toBe(
    '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",' +
      '"artifactType":"application/vnd.commonweight.model.v1","config":{"mediaType":' +
      `"application/vnd.oci.empty.v1+json","digest":"sha256:${emptyConfig.sha256}","size":2},` +
      `"layers":[{"mediaType":"application/octet-stream","digest":"sha256:${'b'.repeat(64)}",` +
      '"size":7,"annotations":{"org.opencontainers.image.title":"LICENSE"}},{"mediaType":' +
      `"application/octet-stream","digest":"sha256:${'a'.repeat(64)}","size":8589934592,` +
      '"annotations":{"org.opencontainers.image.title":"m-Q8_0.gguf"}},{"mediaType":' +
      `"application/octet-stream","digest":"sha256:${'c'.repeat(64)}","size":0,` +
      '"annotations":{"org.opencontainers.image.title":"sub/ä \\"x\\".json"}}],' +
      '"annotations":{"org.commonweight.manifest":"bafyexample"}}',
  )
})

test("Ollama's manifest, byte for byte", () => {
  const config = named('application/vnd.docker.container.image.v1+json', '{"é":1}')
  const [first] = weightsOf(files)
  const companions = companionsOf(besideOf(files), first as Weights)
  expect(ollamaManifest(weights, companions, config).text).toBe(
    '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",' +
      '"config":{"mediaType":"application/vnd.docker.container.image.v1+json",' +
      `"digest":"sha256:${config.sha256}","size":8},"layers":[{"mediaType":` +
      `"application/vnd.ollama.image.model","digest":"sha256:${'a'.repeat(64)}","size":8589934592},` +
      `{"mediaType":"application/vnd.ollama.image.license","digest":"sha256:${'b'.repeat(64)}","size":7}]}`,
  )
})

const text = (key: string, value: string): Buffer => keyValue(key, 8, ggufString(value))
const configOf = (...keyValues: Buffer[]): Promise<string> =>
  ollamaConfig(memorySource(ggufFile({ keyValues })))

test('the config of a GGUF, byte for byte', async () => {
  const config = await configOf(
    text('general.architecture', 'gemma3'),
    text('general.size_label', '27B'),
    // 1024: worked out, not known.
    keyValue('general.file_type', 4, u32(1024 + 15)),
  )
  expect(config).toBe(
    '{"model_format":"gguf","model_family":"gemma3","model_families":["gemma3"],' +
      '"model_type":"27B","file_type":"Q4_K_M","os":"linux","architecture":"amd64",' +
      '"rootfs":{"type":"layers","diff_ids":[]}}',
  )
})

test('what a GGUF does not say, or says wrongly, is unknown', async () => {
  const config = await configOf(
    keyValue('general.architecture', 4, u32(1)),
    text('general.size_label', ''),
    keyValue('general.file_type', 4, u32(999)),
  )
  expect(JSON.parse(config)).toMatchObject({
    model_family: 'unknown',
    model_families: ['unknown'],
    model_type: 'unknown',
    file_type: 'unknown',
  })
})

test('what is no GGUF has no config', async () => {
  await expect(ollamaConfig(memorySource(Buffer.from('no GGUF')))).rejects.toThrow(
    InvalidInputError,
  )
})
