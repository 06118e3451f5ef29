/** How a hub is asked for an operation, and what it must say of a repository before anything is fetched. */

import type { MirrorRequest } from '../../api/contract.ts'
import { InvalidInputError } from '../../core/errors.ts'
import type { HubInfo } from '../../hub/answers.ts'
import { type Hub, openHub } from '../../hub/hub.ts'
import { type HubRef, type HubRepo, hubUrl } from '../../hub/ref.ts'
import type { HashPool } from '../../ingest/hash-file.ts'
import type { Net } from '../../net/net.ts'
import type { OperationOptions } from '../operation.ts'
import type { PullDeps } from '../pull/pull.ts'
import type { OnNotice } from './keep.ts'

export interface MirrorDeps extends PullDeps {
  readonly pool: HashPool
  readonly net: PullDeps['net'] & Pick<Net, 'addresses' | 'peers'>
  /** The environment of programs that are run: git, to read a clone. */
  readonly programEnv: Readonly<Record<string, string>>
}

/** To whoever follows the operation. */
export function noticesTo({ onEvent }: OperationOptions): OnNotice {
  return (level, message) => onEvent({ type: 'notice', level, message })
}

/** The hub that was named, or Hugging Face's. */
export function openAsked(
  { clock, log, webSeeds }: MirrorDeps,
  { upstream = hubUrl, token }: Pick<MirrorRequest, 'upstream' | 'token'>,
  options: OperationOptions,
): Hub {
  const { allowPrivate, agent } = webSeeds
  const deps = { clock, log, onNotice: noticesTo(options) }
  return openHub(deps, { upstream, allowPrivate, token, agent })
}

/** InvalidInputError when the repository is not for everybody. */
export async function askAbout(
  hub: Hub,
  ref: HubRef,
  asked: {
    readonly request: Pick<MirrorRequest, 'allowGated'>
    readonly options: OperationOptions
  },
): Promise<HubInfo> {
  const info = await hub.info(ref, asked.options.signal)
  refuseClosed(info, asked.request)
  noticeRenamed(ref, info, asked.options)
  return info
}

/** Names are what is asked for later. */
function noticeRenamed(asked: HubRepo, { repo }: HubInfo, options: OperationOptions): void {
  if (asked.repo === repo) return
  const message = `the hub calls ${asked.repo} ${repo}: that is the name from here on`
  options.onEvent({ type: 'notice', level: 'info', message })
}

/** What somebody keeps from others is not given to a network that forgets nothing. */
export function refuseClosed(
  info: HubInfo,
  { allowGated }: Pick<MirrorRequest, 'allowGated'>,
): void {
  const { repo, licence = 'not stated' } = info
  if (info.isPrivate) {
    throw new InvalidInputError(`${repo} is private: it is not mirrored`, {
      hint: 'commonweight seed shares files that are yours to share',
    })
  }
  if (info.isDisabled) {
    throw new InvalidInputError(`${repo} is disabled on the hub: it is not mirrored`, {
      hint: 'ask its owners or the hub why',
    })
  }
  if (info.gated !== false && !allowGated) {
    throw new InvalidInputError(`${repo} is gated: who wants it accepts terms on the hub first`, {
      hint: `read its terms (licence: ${licence}); --allow-gated mirrors it if they let you share it`,
    })
  }
}
