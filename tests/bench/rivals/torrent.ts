/** A torrent of one file, and the smallest tracker that lets two clients on this machine find each other. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { open, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename } from 'node:path'
import { MiB } from '../../../src/core/units.ts'

/** As large as our chunks. */
const pieceBytes = MiB

/** BitTorrent v1: pieces by SHA-1. Writes the torrent to `target`. */
export async function makeTorrent(file: string, target: string, tracker: string): Promise<void> {
  await using source = await open(file)
  const { size } = await source.stat()
  const piece = Buffer.alloc(pieceBytes)
  const digests: Buffer[] = []
  for (let at = 0; at < size; at += pieceBytes) {
    const { bytesRead } = await source.read(piece, 0, pieceBytes, at)
    digests.push(createHash('sha1').update(piece.subarray(0, bytesRead)).digest())
  }
  const pieces = Buffer.concat(digests)
  const name = basename(file)
  // Bencoded by hand: four fields, sorted.
  await writeFile(
    target,
    Buffer.concat([
      Buffer.from(
        `d8:announce${tracker.length}:${tracker}4:infod6:lengthi${size}e4:name${name.length}:${name}` +
          `12:piece lengthi${pieceBytes}e6:pieces${pieces.length}:`,
      ),
      pieces,
      Buffer.from('ee'),
    ]),
  )
}

export interface Tracker extends AsyncDisposable {
  readonly url: string
}

/** Answers every announce with the one peer that has it all. */
export async function startTracker(seederPort: number): Promise<Tracker> {
  const peer = Buffer.from([127, 0, 0, 1, seederPort >> 8, seederPort & 255])
  const answer = Buffer.concat([Buffer.from('d8:intervali1800e5:peers6:'), peer, Buffer.from('e')])
  const server = createServer((_, response) => response.end(answer)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/announce`,
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
