/**
 * Import: files that are on this disk already become a hub's commit, where they lie: a git clone, which
 * proves itself, or a folder, which is compared with what the hub lists. docs/spec/mirroring.md, section 7.
 */

import { createReadStream } from 'node:fs'
import type { ImportedEvent, ImportRequest } from '../../api/mirror-contract.ts'
import { toHex } from '../../core/bytes.ts'
import { IntegrityError, InvalidInputError, NotFoundError, systemCode } from '../../core/errors.ts'
import { gitBlobOid } from '../../core/git.ts'
import { isClone, openClone } from '../../hub/clone.ts'
import type { HubFile } from '../../hub/answers.ts'
import {
  formatHubRef,
  hubName,
  type HubRepo,
  hubUrl,
  parseCommitRef,
  parseHubRef,
} from '../../hub/ref.ts'
import { findFiles, type FoundFile } from '../../ingest/folder.ts'
import { type ImportedFile, type ImportedModel, importFiles } from '../../ingest/import-files.ts'
import { pointerText } from '../../manifest/git-commit.ts'
import { type ManifestSource, sealManifest } from '../../manifest/manifest.ts'
import { refuseHome } from '../home-guard.ts'
import { factsOf, type HubFacts, noFacts } from './hub-facts.ts'
import { hubSeedsOf } from './hub-seed.ts'
import { linkTo } from '../link.ts'
import { openMeter } from '../meter.ts'
import { askAbout, type MirrorDeps, noticesTo, openAsked } from './hub-door.ts'
import { mirrorName } from './keep.ts'
import type { OperationOptions } from '../operation.ts'

/** What a commit consists of, and who says so. */
interface Listed {
  readonly repo: HubRepo
  readonly commit: string
  readonly files: readonly HubFile[]
  readonly proof: ImportedEvent['proof']
  readonly facts: HubFacts
  /** Another place where a file may lie. */
  readonly otherPlace: (file: HubFile) => string | undefined
}

interface Checked {
  readonly listed: Listed
  readonly imported: ImportedModel
  readonly options: OperationOptions
}

/** Named in an error: more are counted. */
const namedMax = 5

export async function importCommit(
  deps: MirrorDeps,
  request: ImportRequest,
  options: OperationOptions,
): Promise<ImportedEvent> {
  const { store, pool, clock, log } = deps
  const { signal } = options
  await refuseHome(deps, request.path)
  const meter = openMeter(clock, options.onEvent)
  pool.warm()
  const listed = await listCommit(deps, request, options)
  const found = await findFiles([request.path], { signal })
  const chosen = await placeFiles(listed, found, signal)
  const imported = await importFiles({ pool, known: files => store.filesAt(files) }, chosen, {
    signal,
    onProgress: progress => meter.report({ phase: 'hashing', peers: 0, ...progress }),
  })
  await checkFiles(listed, imported.files)
  const { repo, commit, files } = listed
  const kept = keep(deps, request, { listed, imported, options })
  log.info('imported', { repo: repo.repo, commit, manifest: kept.manifest })
  const paths = new Set(files.map(({ path }) => path))
  return {
    type: 'imported',
    ref: formatHubRef({ ...repo, revision: commit }),
    commit,
    ...kept,
    files: imported.files.length,
    bytes: imported.bytes,
    proof: listed.proof,
    leftOut: found.filter(({ path }) => !paths.has(path)).length,
  }
}

function keep(
  deps: MirrorDeps,
  request: ImportRequest,
  { listed: of, imported, options }: Checked,
): Pick<ImportedEvent, 'link' | 'manifest' | 'name'> {
  const { store, net, clock } = deps
  const { commit, files, facts, proof } = of
  const { type, repo } = of.repo
  // A clone was not compared with anything that is still there.
  const upstream = proof === 'commit' ? '' : (request.upstream ?? hubUrl)
  const source: ManifestSource = { hub: hubName, repo, type, commit }
  const listed = new Map(files.map(file => [file.path, file]))
  const sealed = sealManifest(
    imported.manifest.files.map(file => {
      const { gitOid, sha256 } = listed.get(file.path) as HubFile
      return { ...file, gitOid, lfs: sha256 !== undefined }
    }),
    source,
  )
  const manifest = sealed.cid.toString()
  const held = store.addModel(
    {
      manifest: sealed.cid,
      block: sealed.block,
      name: mirrorName(deps, {
        type,
        repo,
        manifest,
        isWhole: true,
        upstream,
        onNotice: noticesTo(options),
      }),
      origin: 'seeded',
      folder: request.path,
      pinned: true,
      seeding: true,
      files: imported.files.map(({ path, file }) => {
        const { place, stamp, sha256, root } = file
        return { path, place, size: stamp.size, sha256, root }
      }),
    },
    imported.fresh,
  )
  store.putOrigin({
    manifest: sealed.cid,
    hub: hubName,
    type,
    repo,
    revision: commit,
    upstream,
    isWhole: true,
    seenAtMs: clock.now(),
    facts: JSON.stringify(facts),
  })
  net.providedChanged()
  return {
    manifest,
    name: held.name ?? null,
    link: linkTo(net, held, hubSeedsOf(store, sealed.cid)),
  }
}

async function listCommit(
  deps: MirrorDeps,
  request: ImportRequest,
  options: OperationOptions,
): Promise<Listed> {
  if (await isClone(request.path)) return listClone(deps, request, options)
  if (request.source === undefined) {
    throw new InvalidInputError(`${request.path} is no git clone, and --source names no commit`, {
      hint: 'add --source hf:ORG/MODEL@COMMIT, or share the folder as it is with commonweight seed',
    })
  }
  const ref = parseCommitRef(request.source)
  using hub = openAsked(deps, request, options)
  const info = await askAbout(hub, ref, { request, options })
  if (info.commit !== ref.revision) {
    throw new NotFoundError(`the hub has ${info.commit} where ${ref.revision} was asked for`, {
      hint: 'name the commit by its 40 digits',
    })
  }
  const files = await hub.files(info, info.commit, options.signal)
  return {
    repo: info,
    commit: info.commit,
    files,
    proof: 'hub',
    facts: factsOf(info, await hub.refs(info, options.signal), files),
    otherPlace: () => undefined,
  }
}

async function listClone(
  { programEnv: env }: MirrorDeps,
  { path, source }: ImportRequest,
  { signal, onEvent }: OperationOptions,
): Promise<Listed> {
  const ref = source === undefined ? undefined : parseHubRef(source)
  // Without a revision it is what is checked out.
  const isNamed = source?.includes('@') === true
  const clone = await openClone(path, isNamed ? ref?.revision : undefined, { signal, env })
  const repo = ref ?? clone.repo
  if (repo === undefined) {
    throw new InvalidInputError(`${path} was not cloned from a hub that is known`, {
      hint: 'add --source hf:ORG/MODEL',
    })
  }
  onEvent({
    type: 'notice',
    level: 'info',
    message:
      'a clone does not tell whether its repository is private or gated: share what you may share',
  })
  const { commit, files } = clone
  return {
    repo: { type: repo.type, repo: repo.repo },
    commit,
    files,
    proof: 'commit',
    facts: noFacts,
    otherPlace: ({ sha256 }) => (sha256 === undefined ? undefined : clone.lfsPlace(sha256)),
  }
}

/** Where each file of the commit lies; throws NotFoundError with those that are missing. */
async function placeFiles(
  { files, otherPlace }: Listed,
  found: readonly FoundFile[],
  signal: AbortSignal,
): Promise<FoundFile[]> {
  const byPath = new Map(found.map(file => [file.path, file]))
  const chosen: FoundFile[] = []
  const missing: string[] = []
  for (const file of files) {
    const other = otherPlace(file)
    const here = byPath.get(file.path)
    // A pointer that Git LFS has not replaced has its size; the file is among its objects, or not here.
    const isPointer =
      other !== undefined && here?.size === pointerSize(file) && file.size !== here.size
    const placed = isPointer ? await foundAt(other, file.path, signal) : here
    if (placed === undefined) missing.push(file.path)
    else chosen.push(placed)
  }
  if (missing.length === 0) return chosen
  throw new NotFoundError(`${countOf(missing)} in the commit and not here: ${someOf(missing)}`, {
    hint: 'git lfs pull fetches what a clone lacks; commonweight mirror fetches a whole commit',
  })
}

function pointerSize({ sha256, size }: HubFile): number {
  return sha256 === undefined ? -1 : pointerText({ sha256, size }).length
}

async function foundAt(
  place: string,
  path: string,
  signal: AbortSignal,
): Promise<FoundFile | undefined> {
  try {
    const [file] = await findFiles([place], { signal })
    return file === undefined ? undefined : { ...file, path }
  } catch (error) {
    if (error instanceof NotFoundError || systemCode(causeOf(error)) === 'ENOENT') return undefined
    throw error
  }
}

function causeOf(error: unknown): unknown {
  return Error.isError(error) ? error.cause : undefined
}

/** Throws IntegrityError with the files that are not the commit's. */
async function checkFiles({ files }: Listed, imported: readonly ImportedFile[]): Promise<void> {
  const listed = new Map(files.map(file => [file.path, file]))
  const wrong: string[] = []
  for (const { path, file } of imported) {
    const { sha256, gitOid, size } = listed.get(path) as HubFile
    const isRight =
      file.stamp.size === size &&
      (sha256 === undefined
        ? (await gitBlobOid(size, createReadStream(file.place) as AsyncIterable<Buffer>)) === gitOid
        : toHex(file.sha256) === sha256)
    if (!isRight) wrong.push(path)
  }
  if (wrong.length === 0) return
  throw new IntegrityError(`${countOf(wrong)} not as in the commit: ${someOf(wrong)}`, {
    hint: 'they were changed, or git changes line ends (core.autocrlf); commonweight seed shares them as they are',
  })
}

function countOf({ length }: readonly string[]): string {
  return length === 1 ? '1 file is' : `${length} files are`
}

function someOf(paths: readonly string[]): string {
  const named = paths.slice(0, namedMax).join(', ')
  return paths.length > namedMax ? `${named} …` : named
}
