/** The cost of work as CPU time of this thread: what others take of a busy machine is no fault of it. */

/** So far. */
export function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/** The most that the event loop spent in one turn while `work` ran. */
export async function longestTurnMs(work: () => Promise<void>): Promise<number> {
  let longest = 0
  let before = cpuMs()
  const timer = setInterval(() => {
    const now = cpuMs()
    longest = Math.max(longest, now - before)
    before = now
  }, 1)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return longest
}
