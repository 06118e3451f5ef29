import { defineConfig } from 'vitest/config'

/** What is waited for comes at once, or late on a busy machine; the test's own time-out is above it. */
const polls = { expect: { poll: { timeout: 15_000 } } }
const slow = { ...polls, testTimeout: 120_000, hookTimeout: 240_000 }
/** Links of the lab are as slow as real ones. */
const slower = { ...polls, testTimeout: 240_000, hookTimeout: 60_000 }
/** Unit tests wait for nothing; a busy machine may still take its time. */
const patient = { ...polls, testTimeout: 60_000 }
const noBench = { benchmark: { include: [] } }

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    // Many tests wait for a time-out of something else: more files at once than cores.
    maxWorkers: 3,
    projects: [
      { test: { name: 'unit', include: ['tests/unit/**/*.test.ts'], ...noBench, ...patient } },
      {
        test: {
          name: 'adversarial',
          include: ['tests/adversarial/**/*.test.ts'],
          ...noBench,
          ...slow,
        },
      },
      { test: { name: 'interop', include: ['tests/interop/**/*.test.ts'], ...noBench, ...slow } },
      { test: { name: 'lab', include: ['tests/lab/**/*.test.ts'], ...noBench, ...slower } },
      { test: { name: 'e2e', include: ['tests/e2e/**/*.test.ts'], ...noBench, ...slow } },
    ],
  },
})
