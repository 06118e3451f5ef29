/** The limits on the speed of uploads and downloads, shown and changed. */

import type { LimitsRequest, LimitsView } from '../api/contract.ts'
import type { Logger } from '../core/log.ts'
import type { Bandwidth } from '../net/upload/bandwidth.ts'

export function limitsView({ down, up, limitLan }: Bandwidth): LimitsView {
  return {
    type: 'limits',
    maxDown: down.bytesPerSecond ?? null,
    maxUp: up.bytesPerSecond ?? null,
    limitLan,
  }
}

/** What is left out stays as it is. */
export function changeLimits(
  { bandwidth, log }: { bandwidth: Bandwidth; log: Logger },
  { maxDown, maxUp }: LimitsRequest,
): LimitsView {
  if (maxDown !== undefined) bandwidth.down.set(maxDown ?? undefined)
  if (maxUp !== undefined) bandwidth.up.set(maxUp ?? undefined)
  const view = limitsView(bandwidth)
  log.info('limits set', { maxDown: view.maxDown, maxUp: view.maxUp })
  return view
}
