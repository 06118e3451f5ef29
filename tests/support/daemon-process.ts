/** Starts tests/support/fake-daemon.ts as a process of its own and says what became of it. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join } from 'node:path'

export interface DaemonProcess extends AsyncDisposable {
  readonly pid: number
  /** Its first line on stdout; undefined when it ended without one. */
  readonly ready: Promise<string | undefined>
  /** Its end: exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>
  stderr(): string
  kill(signal: NodeJS.Signals): void
  /** Whoever read its stdout and stderr is gone. */
  closePipes(): void
}

export function startDaemonProcess(
  home: string,
  options: { args?: readonly string[]; env?: Record<string, string> } = {},
): DaemonProcess {
  const program = join(import.meta.dirname, 'fake-daemon.ts')
  const args = [program, '--home', home, '--json', ...(options.args ?? [])]
  const child = spawn(process.execPath, args, {
    env: { ...process.env, COMMONWEIGHT_HTTP_LISTEN: 'off', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let errors = ''
  child.stderr.on('data', (text: Buffer) => (errors += text.toString()))
  const ended = once(child, 'close').then(
    ([code, signal]: unknown[]) => (code ?? signal) as number | NodeJS.Signals,
  )
  const lines = createInterface({ input: child.stdout })
  const firstLine = once(lines, 'line').then(([line]: unknown[]) => line as string)
  const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null
  return {
    pid: child.pid ?? 0,
    ready: Promise.race([firstLine, ended.then(() => undefined)]),
    ended,
    stderr: () => errors,
    kill: signal => child.kill(signal),
    closePipes() {
      child.stdout.destroy()
      child.stderr.destroy()
    },
    async [Symbol.asyncDispose]() {
      if (!isOver()) child.kill('SIGKILL')
      await ended
    },
  }
}
