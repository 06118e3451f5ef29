/**
 * Writes manifest.json: `node tests/vectors/make-manifest.ts`. The blocks are made by @ipld/dag-cbor
 * and by hand, not by our own code, which has to agree with them.
 */

import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as dagCbor from '@ipld/dag-cbor'
import { sha256 } from '@noble/hashes/sha2.js'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

interface File {
  readonly path: string
  readonly size: number
  readonly sha256: Uint8Array
  readonly root: CID
}

/** A file of a model with a source. */
interface GitFile extends File {
  readonly gitOid: Uint8Array
  readonly lfs: boolean
}

function cidOf(codec: number, bytes: Uint8Array): CID {
  return CID.createV1(codec, Digest.create(0x12, sha256(bytes)))
}

function oneChunk(path: string, content: string): File {
  const bytes = Buffer.from(content)
  return { path, size: bytes.length, sha256: sha256(bytes), root: cidOf(0x55, bytes) }
}

/** 3.5 MiB of filler `w`: the case plain-3MiB-and-a-half of chunking.json. */
const large: Omit<File, 'path'> = {
  size: 3_670_016,
  sha256: Buffer.from('5da68be147dd536674f147ec140adbe9e4a99b543ce81a896c939c21d73f2b75', 'hex'),
  root: CID.parse('bafybeibr4vws3gc43qdeyfdd3lipvey7frcef37kk3cdear5tysj5sdfzu'),
}

const config = oneChunk('config.json', '{}')
const readme = oneChunk('README.md', '# A model\n')
const weights: File = { path: 'model.safetensors', ...large }
const empty = oneChunk('sub/empty', '')

function manifest(files: readonly object[], changes: object = {}): object {
  return { type: 'commonweight/manifest', version: 1, chunking: 'cw-chunk-1', files, ...changes }
}

function gitBlob(bytes: Uint8Array): Uint8Array {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest()
}

function inGit(file: File, content: string): GitFile {
  return { ...file, gitOid: gitBlob(Buffer.from(content)), lfs: false }
}

function inLfs(file: File): GitFile {
  const hex = Buffer.from(file.sha256).toString('hex')
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${hex}\nsize ${file.size}\n`
  return { ...file, gitOid: gitBlob(Buffer.from(pointer)), lfs: true }
}

const commit = Buffer.from('e8a1a2f4c3d0b5968778695a4b3c2d1e0f123456', 'hex')
const source = { hub: 'huggingface.co', repo: 'org/Model-1.0', type: 'model', commit }
const gitConfig = inGit(config, '{}')
const gitFiles = [
  inGit(readme, '# A model\n'),
  gitConfig,
  inLfs(weights),
  { ...inLfs(config), path: 'small-in-lfs.json' },
  inGit(empty, ''),
]

const withSource = [
  ['a commit of a hub', 'each file has gitOid and lfs', gitFiles, source],
  [
    'a commit of a dataset',
    'a repository without an organisation, on another hub',
    [gitConfig],
    { ...source, hub: 'hub.example.org', repo: 'data', type: 'dataset' },
  ],
  ['a commit of a space', 'its one file', [gitConfig], { ...source, type: 'space' }],
] as const

const valid = [
  ['one file', 'the smallest model', [config]],
  [
    'several files',
    'sorted by bytes: upper case before lower case',
    [readme, config, weights, empty],
  ],
  [
    'order of code points',
    'the bytes of U+FF5E sort before those of U+1F600; UTF-16 has it the other way round',
    [oneChunk('\uff5e.bin', 'a'), oneChunk('😀.bin', 'b')],
  ],
  [
    'a folder among its neighbours',
    'the bytes of the whole path are compared, so a-b and a.b come before a/b',
    [oneChunk('a-b', 'a'), oneChunk('a.b', 'b'), oneChunk('a/b', 'c')],
  ],
  ['the same bytes twice', 'both files have one root', [config, { ...config, path: 'copy.json' }]],
  ['the largest file', '16 TiB', [{ ...weights, size: 2 ** 44 }]],
] as const

const canonical = Buffer.from(dagCbor.encode(manifest([config])))

/** The canonical block of one file with one hex sequence replaced by another. */
function edited(from: string, to: string): Buffer {
  const hex = canonical.toString('hex')
  if (hex.split(from).length !== 2) throw new Error(`${from} is not in the block once`)
  return Buffer.from(hex.replace(from, to), 'hex')
}

const hexOf = (text: string): string => Buffer.from(text).toString('hex')
const sizeKey = hexOf('size')

function sourceRefusals(): [name: string, block: Uint8Array, expect: string][] {
  const refused = (files: readonly object[], change: object): Uint8Array =>
    dagCbor.encode(manifest(files, { source: { ...source, ...change } }))
  const files = (change: object): Uint8Array => refused([{ ...gitConfig, ...change }], {})
  const { gitOid, lfs } = gitConfig
  return [
    ['a source, but no names in git', refused([config], {}), 'has no name in git'],
    ['a source, one file without lfs', refused([{ ...config, gitOid }], {}), 'has no name in git'],
    ['a source, one file without gitOid', refused([{ ...config, lfs }], {}), 'has no name in git'],
    ['names in git without a source', dagCbor.encode(manifest([gitConfig])), 'has no source'],
    ['lfs without a source', dagCbor.encode(manifest([{ ...config, lfs }])), 'has no source'],
    ['a gitOid of 19 bytes', files({ gitOid: gitOid.subarray(1) }), '20 bytes expected'],
    ['a gitOid of 32 bytes', files({ gitOid: config.sha256 }), 'at most 20'],
    ['a gitOid in hex', files({ gitOid: 'e8a1' }), 'a bytes expected'],
    ['lfs that is a number', files({ lfs: 1 }), 'a boolean expected'],
    ['lfs that is null', files({ lfs: null }), 'a boolean expected'],
    [
      'an empty file that git does not call empty',
      refused([{ ...empty, gitOid, lfs }], {}),
      'is empty, but not for git',
    ],
    [
      'the same bytes with two names in git',
      refused([gitConfig, { ...gitConfig, path: 'copy.json', gitOid: commit }], {}),
      'but not its name in git',
    ],
    ['a hub that is a URL', refused([gitConfig], { hub: 'https://huggingface.co' }), 'of a hub'],
    ['a hub in upper case', refused([gitConfig], { hub: 'HuggingFace.co' }), 'host name of a hub'],
    ['a hub with a port', refused([gitConfig], { hub: 'huggingface.co:443' }), 'host name of a hub'],
    ['a hub without a name', refused([gitConfig], { hub: '' }), 'host name of a hub'],
    ['a repository that climbs', refused([gitConfig], { repo: '../x' }), 'not a repository'],
    ['a repository of three names', refused([gitConfig], { repo: 'a/b/c' }), 'not a repository'],
    ['a repository with --', refused([gitConfig], { repo: 'a/b--c' }), 'not a repository'],
    ['a repository in .git', refused([gitConfig], { repo: 'a/b.git' }), 'not a repository'],
    ['a repository of another script', refused([gitConfig], { repo: 'a/б' }), 'not a repository'],
    ['a source of another type', refused([gitConfig], { type: 'kernel' }), 'of the type'],
    ['a commit in hex', refused([gitConfig], { commit: 'e8a1' }), 'a bytes expected'],
    ['a commit of 32 bytes', refused([gitConfig], { commit: config.sha256 }), 'at most 20'],
    ['an unknown field of a source', refused([gitConfig], { revision: 'main' }), 'unknown field'],
    [
      'a source without its commit',
      dagCbor.encode(manifest([gitConfig], { source: { hub: 'a', repo: 'b', type: 'model' } })),
      'only 3 fields',
    ],
  ]
}

const invalid: readonly (readonly [name: string, block: Uint8Array, expect: string])[] = [
  ['no bytes', Buffer.alloc(0), 'ends too early'],
  ['JSON', Buffer.from('{"type":"commonweight/manifest"}'), 'a map expected'],
  ['cut short', canonical.subarray(0, -1), 'ends too early'],
  ['a byte after the end', Buffer.concat([canonical, Buffer.of(0)]), 'after the end'],
  ['another type', dagCbor.encode(manifest([config], { type: 'manifest' })), 'the type'],
  ['version 2', dagCbor.encode(manifest([config], { version: 2 })), 'the version 2'],
  [
    'another chunking',
    dagCbor.encode(manifest([config], { chunking: 'cw-chunk-2' })),
    'the chunking',
  ],
  ['no files', dagCbor.encode(manifest([])), 'without files'],
  ...sourceRefusals(),
  ['an unknown field', dagCbor.encode(manifest([config], { zzzzzzzzzzz: 1 })), 'unknown field'],
  [
    'an unknown field of a file',
    dagCbor.encode(manifest([{ ...config, mode: 1 }])),
    'unknown field',
  ],
  [
    'a field missing',
    dagCbor.encode({ type: 'commonweight/manifest', version: 1, files: [config] }),
    'only 3 fields',
  ],
  [
    'a size that is not in shortest form',
    edited(`${sizeKey}02`, `${sizeKey}1802`),
    'shortest form',
  ],
  [
    'a size that is a float',
    edited(`${sizeKey}02`, `${sizeKey}fb4000000000000000`),
    'a uint expected',
  ],
  ['a list of indefinite length', edited('81a4', '9fa4'), 'not definite'],
  ['fields out of order', edited(hexOf('path'), hexOf('root')), 'where path belongs'],
  [
    'a SHA-256 of 31 bytes',
    dagCbor.encode(manifest([{ ...config, sha256: config.sha256.subarray(1) }])),
    '32 bytes expected',
  ],
  ['a SHA-256 in hex', dagCbor.encode(manifest([{ ...config, sha256: 'ab' }])), 'a bytes expected'],
  [
    'a root as text',
    dagCbor.encode(manifest([{ ...config, root: config.root.toString() }])),
    'a tag expected',
  ],
  [
    'a root that is a manifest',
    dagCbor.encode(manifest([{ ...config, root: cidOf(0x71, Buffer.from('{}')) }])),
    'a root that is no file',
  ],
  ['a root of CID version 0', edited('d82a58250001551220', 'd82a58250000551220'), 'not a CID'],
  ['files out of order', dagCbor.encode(manifest([config, readme])), 'order of its bytes'],
  ['a path twice', dagCbor.encode(manifest([config, config])), 'listed twice'],
  [
    'paths that differ in case',
    dagCbor.encode(manifest([{ ...config, path: 'Config.json' }, config])),
    'one file on some systems',
  ],
  [
    'a file that is a folder too',
    dagCbor.encode(
      manifest([
        { ...config, path: 'a' },
        { ...config, path: 'a/b' },
      ]),
    ),
    'a folder of',
  ],
  [
    'a path that climbs',
    dagCbor.encode(manifest([{ ...config, path: '../config.json' }])),
    '. or ..',
  ],
  [
    'an absolute path',
    dagCbor.encode(manifest([{ ...config, path: '/config.json' }])),
    'empty segment',
  ],
  ['a path in NFD', dagCbor.encode(manifest([{ ...config, path: 'e\u0301' }])), 'NFC'],
  ['bytes in an empty file', dagCbor.encode(manifest([{ ...empty, size: 1 }])), 'but is empty'],
  ['an empty file of other bytes', dagCbor.encode(manifest([{ ...config, size: 0 }])), 'is empty'],
  [
    'one chunk above 1 MiB',
    dagCbor.encode(manifest([{ ...config, size: 2 ** 20 + 1 }])),
    'its one chunk',
  ],
  [
    'one chunk of another file',
    dagCbor.encode(manifest([{ ...config, root: readme.root }])),
    'not the file',
  ],
  ['a file above 16 TiB', dagCbor.encode(manifest([{ ...weights, size: 2 ** 44 + 1 }])), 'at most'],
  [
    'equal bytes of different size',
    dagCbor.encode(manifest([weights, { ...weights, path: 'n', size: 5_000_000 }])),
    'contradict each other',
  ],
]

function hexBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

const vectors = {
  format: 'commonweight/manifest version 1',
  valid: [...valid, ...withSource].map(([name, why, files, from]) => {
    const block = dagCbor.encode(manifest(files, from === undefined ? {} : { source: from }))
    return {
      name,
      why,
      ...(from === undefined ? {} : { source: { ...from, commit: hexBytes(from.commit) } }),
      files: files.map(file => ({
        ...file,
        sha256: hexBytes(file.sha256),
        root: file.root.toString(),
        ...('gitOid' in file ? { gitOid: hexBytes(file.gitOid) } : {}),
      })),
      block: Buffer.from(block).toString('base64'),
      cid: cidOf(0x71, block).toString(),
    }
  }),
  invalid: invalid.map(([name, block, expect]) => ({
    name,
    block: Buffer.from(block).toString('base64'),
    expect,
  })),
}

writeFileSync(join(import.meta.dirname, 'manifest.json'), `${JSON.stringify(vectors, null, 1)}\n`)
