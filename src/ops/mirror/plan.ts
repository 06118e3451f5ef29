/** What a mirror is to do: which files of the commit, where to, and what of it is here. Fetches nothing. */

import { join } from 'node:path'
import type { MirroredEvent, MirrorRequest } from '../../api/contract.ts'
import { InvalidInputError } from '../../core/errors.ts'
import type { HubFile, HubInfo } from '../../hub/answers.ts'
import { formatHubRef, hubName, parseHubRef, repoPath } from '../../hub/ref.ts'
import { decodeManifest, type ManifestFile } from '../../manifest/manifest.ts'
import { collisionKey, parsePath } from '../../manifest/paths.ts'
import type { HeldModel, Origin } from '../../store/store.ts'
import { changesBetween } from './changes.ts'
import { selectPaths } from '../select.ts'
import type { MirrorDeps } from './hub-door.ts'

/** Digits of a commit in the name of its folder. */
const commitCharacters = 12

export interface Run {
  /** Of the branch or tag that was asked for, as the hub spells it. */
  readonly ref: string
  readonly info: HubInfo
  readonly files: readonly HubFile[]
  readonly bytes: number
  readonly isWhole: boolean
  readonly folder: string
  /** Absolute place of a file. */
  readonly placeOf: (path: string) => string
  /** What was mirrored of this repository before, newest first. */
  readonly before: readonly Origin[]
  readonly changes: MirroredEvent['changes']
  /** The commit is kept elsewhere and stays there: only its files are wanted here, too. */
  readonly stays: HeldModel | undefined
  /** And it is where it is wanted. */
  readonly isHere: boolean
}

export interface Found {
  readonly info: HubInfo
  readonly all: readonly HubFile[]
  readonly known: HeldModel | undefined
}

/** The whole commit, however it came here. */
export async function heldCommit(
  { store }: MirrorDeps,
  info: HubInfo,
): Promise<HeldModel | undefined> {
  for (const { manifest } of store.models()) {
    const block = store.manifestBlock(manifest)
    const source = block === undefined ? undefined : decodeManifest(block).source
    const isSame =
      source?.commit === info.commit && source.repo === info.repo && source.type === info.type
    if (!isSame || source.hub !== hubName) continue
    await store.refresh(manifest)
    return store.model(manifest)
  }
  return undefined
}

/** Where the files are that the model has in this folder. */
function placesIn(
  { store }: MirrorDeps,
  known: HeldModel | undefined,
  folder: string,
): ReadonlyMap<string, string> {
  if (known?.folder !== folder) return new Map()
  return new Map(store.filesOf(known.manifest).map(({ path, place }) => [path, place]))
}

export function planRun(
  deps: MirrorDeps,
  request: MirrorRequest,
  { info, all, known }: Found,
): Run {
  const { store } = deps
  const files = selectPaths(all, request)
  checkPaths(files)
  const before = store.originsOf({ hub: hubName, type: info.type, repo: info.repo })
  const isWhole = files.length === all.length
  const own = known?.origin === 'pulled' ? known.folder : commitFolder(deps, info)
  const folder = request.to ?? own
  const isKept = isWhole && known?.state === 'complete'
  // A folder that its user shares is as good; the cache of a program may be emptied by it.
  const isHere = isKept && request.to === undefined && known.origin === 'seeded' && known.pinned
  const isElsewhere = isKept && known.origin === 'pulled' && known.folder !== folder
  const places = placesIn(deps, known, folder)
  const last = before.find(({ revision }) => revision !== info.commit)
  return {
    ref: formatHubRef({
      type: info.type,
      repo: info.repo,
      revision: parseHubRef(request.ref).revision,
    }),
    info,
    files,
    bytes: files.reduce((sum, { size }) => sum + size, 0),
    isWhole,
    folder: isHere ? known.folder : folder,
    stays: isHere || isElsewhere ? known : undefined,
    isHere,
    placeOf: path => places.get(path) ?? join(folder, ...path.split('/')),
    before,
    changes:
      last === undefined || known !== undefined
        ? null
        : changesBetween(last.revision, manifestFiles(deps, last), files),
  }
}

/** What no manifest could list is refused before anything is fetched. */
export function checkPaths(files: readonly HubFile[]): void {
  const seen = new Map<string, string>()
  for (const { path } of files) {
    const key = collisionKey(parsePath(path))
    const other = seen.get(key)
    if (other !== undefined) {
      throw new InvalidInputError(`${other} and ${path} are one file on some systems`, {
        hint: 'leave one of them out with --exclude: the copy is partial then',
      })
    }
    seen.set(key, path)
  }
}

/** Each commit has one: what is of an old revision stays what it is. */
export function commitFolder(
  { modelsFolder }: Pick<MirrorDeps, 'modelsFolder'>,
  info: HubInfo,
): string {
  const commit = info.commit.slice(0, commitCharacters)
  return join(modelsFolder, ...`${repoPath(info)}@${commit}`.split('/'))
}

/** What the manifest says of those files that are kept here. */
export function manifestFiles(
  { store }: MirrorDeps,
  { manifest }: Origin,
): readonly ManifestFile[] {
  const block = store.manifestBlock(manifest)
  if (block === undefined) return []
  const wanted = new Set(store.filesOf(manifest).map(({ path }) => path))
  return decodeManifest(block).files.filter(({ path }) => wanted.has(path))
}
