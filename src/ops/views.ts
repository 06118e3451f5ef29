/** What the store holds, as the control API shows it. */

import type { FileView, ModelView, RemovedView } from '../api/contract.ts'
import { toHex } from '../core/bytes.ts'
import type { CID } from '../core/cid.ts'
import type { HeldFile, HeldModel, Removed } from '../store/store.ts'

export function modelView(model: HeldModel): ModelView {
  const { bytes, bytesHeld } = model
  return {
    type: 'model',
    manifest: model.manifest.toString(),
    name: model.name ?? null,
    origin: model.origin,
    path: model.folder,
    state: model.state,
    pinned: model.pinned,
    seeding: model.seeding,
    files: model.files,
    bytes,
    bytesHeld,
    // Rounded down, so that 100 means every byte; a model of empty files is complete by its state.
    percent:
      bytes === 0 ? (model.state === 'complete' ? 100 : 0) : Math.floor((bytesHeld / bytes) * 100),
    addedAtMs: model.addedAtMs,
  }
}

export function fileView(file: HeldFile): FileView {
  return {
    type: 'file',
    path: file.path,
    place: file.place,
    size: file.size,
    sha256: toHex(file.sha256),
    root: file.root.toString(),
    state: file.state,
    chunks: file.chunks,
    chunksHeld: file.chunksHeld,
  }
}

export function removedView(manifest: CID | undefined, removed: Removed): RemovedView {
  const { filesDeleted, bytesFreed, kept } = removed
  return {
    type: 'removed',
    manifest: manifest?.toString() ?? null,
    filesDeleted,
    bytesFreed,
    kept: [...kept],
  }
}
