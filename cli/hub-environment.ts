/** The variables that make clients of the Hugging Face Hub ask our gateway. */

import type { Client } from '../src/api/client.ts'
import { UnavailableError } from '../src/core/errors.ts'

/** What a proxy must not get: requests to this machine. */
const noProxy = '127.0.0.1,localhost'

/** In the order they are printed. `before` is the environment that they are added to. */
export async function hubEnvironment(
  client: Client,
  before: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const { gateway } = await client.status(signal)
  if (gateway === null) {
    throw new UnavailableError('the daemon has no gateway', {
      hint: 'its address may be taken or off: set http.listen (commonweight config shows it) and start it again',
    })
  }
  const others = (before['NO_PROXY'] ?? before['no_proxy'] ?? '')
    .split(',')
    .filter(name => name !== '' && !noProxy.split(',').includes(name))
  return {
    HF_ENDPOINT: gateway,
    // A file that others are still sending is slower than a hub's.
    HF_HUB_DOWNLOAD_TIMEOUT: '120',
    HF_HUB_ETAG_TIMEOUT: '30',
    NO_PROXY: [noProxy, ...others].join(','),
    // Those would ask servers of others.
    DISABLE_SAFETENSORS_CONVERSION: '1',
    HF_HUB_DISABLE_TELEMETRY: '1',
    HF_HUB_DISABLE_UPDATE_CHECK: '1',
  }
}
