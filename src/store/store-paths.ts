/** Where a store keeps what. */

export interface StorePaths {
  readonly index: string
  readonly state: string
  /** Our own folder for models: the only one in which files are deleted. */
  readonly models: string
}
