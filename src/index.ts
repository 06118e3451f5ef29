/** What an embedding program may import: a whole node, and content addressing without one. */

export { homePaths, type HomePaths } from './api/home.ts'
export { systemClock, type Clock } from './core/clock.ts'
export { CommonweightError, type ErrorCode } from './core/errors.ts'
export { silentLog, type Logger } from './core/log.ts'
export { decodeManifest, type Manifest, type ManifestFile } from './manifest/manifest.ts'
export { openNode, type Node, type NodeDeps, type NodeOptions } from './node.ts'
