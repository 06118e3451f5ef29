/**
 * Grants a sender more of a yamux stream's window once half of it is used, as Go and Rust do.
 * @chainsafe/libp2p-yamux answers every single message with an update, each encrypted and written like
 * a message of its own: half of what a control stream sent, and a CPU second for each GiB of chunks on
 * a stream. There is no option for it. tests/unit/net/host/window-updates.test.ts fails when an upgrade
 * makes this ineffective.
 */

import { StreamState, YamuxStream } from '@chainsafe/libp2p-yamux/stream'

let isSpared = false

/** Of all of libp2p in this process, once. */
export function spareWindowUpdates(): void {
  if (isSpared) return
  isSpared = true
  const update = Reflect.get(YamuxStream.prototype, 'sendWindowUpdate')
  YamuxStream.prototype.sendWindowUpdate = function sparingUpdate() {
    // Before that an update opens or acknowledges the stream.
    if (this.state === StreamState.Established && isHalfFree(this)) return
    update.call(this)
  }
}

function isHalfFree(stream: YamuxStream): boolean {
  const free = Reflect.get(stream, 'recvWindowCapacity') as number
  return free > (Reflect.get(stream, 'recvWindow') as number) / 2
}
