/** A command on a terminal: python3's pty, because Node has none. Keys are typed when a text appears. */

import { execFile, spawnSync } from 'node:child_process'

export interface Session {
  readonly code: number
  /** What the terminal got, colours and all. */
  readonly screen: string
}

/** `after` appears on the screen, then `type` is typed. */
export interface Keys {
  readonly after: string
  readonly type: string
}

export const ctrlC = '\u0003'
export const ctrlD = '\u0004'

export const hasTerminal = spawnSync('python3', ['-c', 'import pty']).status === 0

const driver = `
import fcntl, json, os, pty, select, struct, sys, termios, time
ask = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.execvp(ask['command'][0], ask['command'])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, ask['columns'], 0, 0))
screen, seen, end, keys = b'', 0, time.time() + ask['seconds'], ask['keys']
while time.time() < end:
    if select.select([fd], [], [], 0.05)[0]:
        try:
            part = os.read(fd, 65536)
        except OSError:
            break
        if not part:
            break
        screen += part
    if keys:
        at = screen.find(keys[0]['after'].encode(), seen)
        if at >= 0:
            seen = at + len(keys[0]['after'].encode())
            os.write(fd, keys.pop(0)['type'].encode())
else:
    os.kill(pid, 9)
status = os.waitpid(pid, 0)[1]
print(json.dumps({'code': os.waitstatus_to_exitcode(status), 'screen': screen.decode()}))
`

/** Runs the command to its end on a terminal of `columns`; killed after 20 s (code -9). */
export function onTerminal(
  command: readonly string[],
  options: { keys?: readonly Keys[]; columns?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Session> {
  const { keys = [], columns = 100, env = process.env } = options
  const ask = JSON.stringify({ command, keys, columns, seconds: 20 })
  return new Promise((resolve, reject) => {
    execFile('python3', ['-c', driver, ask], { env }, (error, stdout) => {
      if (error === null) resolve(JSON.parse(stdout) as Session)
      else reject(new Error('the terminal failed', { cause: error }))
    })
  })
}
