/** The layering of the project, and the limits that keep it readable: docs/conventions.md section 2. */

import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { expect, test } from 'vitest'

/** A folder may import itself and the folders named here. src/node.ts and src/index.ts gather all. */
const mayImport: Record<string, readonly string[]> = {
  'src/core': [],
  'src/formats': ['src/core'],
  'src/dag': ['src/core'],
  'src/wire': ['src/core'],
  'src/manifest': ['src/core'],
  'src/api': ['src/core', 'src/manifest'],
  'src/ingest': ['src/core', 'src/formats', 'src/dag', 'src/manifest'],
  'src/caches': ['src/core', 'src/manifest', 'src/ingest'],
  'src/store': ['src/core', 'src/dag'],
  'src/transfer': ['src/core', 'src/dag', 'src/manifest', 'src/store'],
  'src/bulk': ['src/core', 'src/dag', 'src/store', 'src/wire'],
  'src/hub': ['src/core', 'src/manifest', 'src/net'],
  'src/net': [
    'src/core',
    'src/dag',
    'src/manifest',
    'src/store',
    'src/transfer',
    'src/wire',
    'src/bulk',
  ],
  'src/ops': [
    'src/core',
    'src/dag',
    'src/manifest',
    'src/ingest',
    'src/caches',
    'src/store',
    'src/transfer',
    'src/net',
    'src/hub',
    'src/formats',
    'src/api',
  ],
  daemon: ['src', 'src/core', 'src/dag', 'src/formats', 'src/manifest', 'src/api'],
  cli: ['src/core', 'src/dag', 'src/formats', 'src/manifest', 'src/ingest', 'src/api'],
}

/** Files that decide and do not act: no node: module, so that they run and are tested anywhere. */
const pureFolders = ['src/formats', 'src/dag', 'src/manifest', 'src/wire']
const pureFiles = [
  'src/transfer/picker.ts',
  'src/transfer/scoreboard.ts',
  'src/transfer/session.ts',
]

const root = join(import.meta.dirname, '../..')
const sources = globSync('{src,daemon,cli}/**/*.ts', { cwd: root })

/** `src/net/wire.ts` is in layer `src/net`; `src/index.ts` in `src`; `cli/commands/ls.ts` in `cli`. */
function layerOf(path: string): string {
  const folders = dirname(path).split('/')
  return folders[0] === 'src' ? folders.slice(0, 2).join('/') : (folders[0] ?? '')
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  const fixed = text.matchAll(/^(?:import|export)\b[^'"]*?from '([^']+)'/gm)
  const lazy = text.matchAll(/\bimport\('([^']+)'\)/g)
  return [...fixed, ...lazy].map(match => match[1] ?? '')
}

function forbiddenImports(file: string): string[] {
  const layer = layerOf(file)
  const allowed = mayImport[layer]
  if (allowed === undefined) return []
  return importsOf(file)
    .filter(target => target.startsWith('.'))
    .map(target => layerOf(normalize(join(dirname(file), target))))
    .filter(target => target !== layer && !allowed.includes(target))
}

test('every folder of the library has its row in the table', () => {
  const layers = new Set(sources.map(layerOf).filter(layer => layer !== 'src'))
  expect([...layers].filter(layer => mayImport[layer] === undefined)).toEqual([])
})

test.for(sources)('%s imports only the layers below it', file => {
  expect(forbiddenImports(file)).toEqual([])
})

const pure = sources.filter(file => pureFolders.includes(layerOf(file)) || pureFiles.includes(file))

test.for(pure)('%s does no input or output', file => {
  expect(importsOf(file).filter(target => target.startsWith('node:'))).toEqual([])
})

test('the library reads no environment, prints nothing and does not exit', () => {
  const ofProcess = /\bprocess\.(?:env|exit|exitCode|on|once|stdout|stderr)\b|\bconsole\./u
  const library = sources.filter(file => file.startsWith('src/'))
  expect(library.filter(file => ofProcess.test(readFileSync(join(root, file), 'utf8')))).toEqual([])
})

test.for(globSync('tests/unit/*/**/*.test.ts', { cwd: root }))('%s tests a module', file => {
  const path = file.replace('tests/unit/', '').replace('.test.ts', '.ts')
  const subjects = [path, join('src', path)].map(subject => join(root, subject))
  expect(
    subjects.some(subject => existsSync(subject)),
    `${path} is gone`,
  ).toBe(true)
})
