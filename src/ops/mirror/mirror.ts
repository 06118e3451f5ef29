/**
 * Mirror: a commit of a hub's repository becomes a model that is kept and served. What is here already is
 * not fetched; what is fetched is checked against the hub's own list before it has a name. The manifest says
 * which commit it is, so that two who mirror it make the same. docs/spec/mirroring.md.
 */

import type { MirroredEvent, MirrorRequest } from '../../api/contract.ts'
import { ConflictError } from '../../core/errors.ts'
import { second } from '../../core/units.ts'
import { hubUrl, parseHubRef } from '../../hub/ref.ts'
import { realpathOf, refuseHome } from '../home-guard.ts'
import { factsOf } from './hub-facts.ts'
import { keepCommit, keepOrigin } from './keep.ts'
import { openProgress } from './progress.ts'
import type { OperationOptions } from '../operation.ts'
import { askAbout, type MirrorDeps, noticesTo, openAsked } from './hub-door.ts'
import { obtainAll } from './obtain.ts'
import { heldCommit, planRun, type Run } from './plan.ts'

export interface Mirrors {
  mirror(request: MirrorRequest, options: OperationOptions): Promise<MirroredEvent>
}

export function openMirrors(deps: MirrorDeps): Mirrors {
  /** Folders that are written to, wherever links lead: one mirror each. */
  const busy = new Set<string>()
  return { mirror: (request, options) => mirror(deps, request, { ...options, busy }) }
}

interface MirrorOptions extends OperationOptions {
  readonly busy: Set<string>
}

async function mirror(
  deps: MirrorDeps,
  request: MirrorRequest,
  options: MirrorOptions,
): Promise<MirroredEvent> {
  const startedMs = deps.clock.monotonic()
  if (request.to !== undefined) await refuseHome(deps, request.to)
  const ref = parseHubRef(request.ref)
  using hub = openAsked(deps, request, options)
  const progress = openProgress(deps.clock, options)
  progress.listing()
  const info = await askAbout(hub, ref, { request, options })
  const all = await hub.files(info, info.commit, options.signal)
  const refs = await hub.refs(info, options.signal)
  const known = await heldCommit(deps, info)
  const run = planRun(deps, request, { info, all, known })
  const facts = factsOf(info, refs, run.files)
  using _ = claim(options.busy, await realpathOf(run.folder))
  progress.start(run.files)
  if (run.isHere) for (const file of run.files) progress.done(file)
  const obtained = run.isHere ? [] : await obtainAll(deps, hub, run, { options, request, progress })
  const upstream = request.upstream ?? hubUrl
  const held =
    run.stays === undefined
      ? keepCommit(deps, {
          ...run,
          obtained,
          facts,
          upstream,
          pinned: request.seed,
          seeding: request.seed,
          isNamed: true,
          onNotice: noticesTo(options),
        })
      : keepOrigin(deps, run.stays, { info, facts, upstream, isWhole: true })
  await deps.store.tidy(run.folder)
  noticeOld(deps, run, options)
  deps.log.info('mirrored', { ref: run.ref, commit: info.commit, manifest: held.manifest })
  return {
    type: 'mirrored',
    ...held,
    ref: run.ref,
    commit: info.commit,
    path: run.folder,
    whole: run.isWhole,
    files: run.files.length,
    bytes: run.bytes,
    ...progress.bytes(),
    seconds: (deps.clock.monotonic() - startedMs) / second,
    licence: facts.licence,
    gated: facts.gated,
    changes: run.changes,
  }
}

function claim(busy: Set<string>, folder: string): Disposable {
  if (busy.has(folder)) {
    throw new ConflictError(`${folder} is being mirrored to already`, {
      hint: 'wait for the other mirror, or use another folder with --to',
    })
  }
  busy.add(folder)
  return { [Symbol.dispose]: () => void busy.delete(folder) }
}

/** The revision before stays what it was, and takes its place on the disk. */
function noticeOld({ store }: MirrorDeps, { before, changes }: Run, options: MirrorOptions): void {
  const old = before.find(({ revision }) => revision === changes?.since)?.manifest
  if (old === undefined || store.model(old) === undefined) return
  const message = `the commit before is kept, too: commonweight rm ${old.toString()} --files deletes it`
  options.onEvent({ type: 'notice', level: 'info', message })
}
