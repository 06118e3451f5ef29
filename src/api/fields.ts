/** What fields of the control API are made of, each with its bound. */

import { z } from 'zod'
import { bytesPerSecondMin } from '../core/rate-limit.ts'

export const count = z.number().int().nonnegative()
export const cid = z.string().min(1).max(128)
/** Absolute, or in a manifest. */
export const path = z.string().min(1).max(4096)
export const address = z.string().min(1).max(512)
export const bytesPerSecond = z.number().int().min(bytesPerSecondMin)
export const globs = z.array(z.string().min(1).max(1024)).max(1000)
export const url = z.string().min(1).max(2048)
