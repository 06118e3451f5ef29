/** run: another program, with the environment that makes it ask this node. */

import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import type { Command } from 'commander'
import { InvalidInputError, systemCode } from '../../src/core/errors.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { hubEnvironment } from '../hub-environment.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Runs a command with the variables of commonweight env set: its models come from this node. Ends ' +
        'with the exit code of the command.',
    )
    .argument('<COMMAND...>', 'the command and its arguments; put -- before it')
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'A command that a signal ended gives 128 and the number of the signal, as in a shell.',
        ],
        examples: [
          { command: 'run -- hf download org/model', about: 'with the client of Hugging Face' },
          {
            command: 'run -- python train.py',
            about: 'any program that loads models by their name',
          },
        ],
        exits: ['UNAVAILABLE'],
      }),
    )
    .action((words: readonly string[]) => run(context, words))
}

async function run(context: Context, [program = '', ...args]: readonly string[]): Promise<void> {
  const client = await context.client()
  const variables = await hubEnvironment(client, process.env, context.signal)
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...variables } })
  // Ctrl-C reaches the child from the terminal, and it decides what that means. What was sent to us
  // alone is passed on.
  using _ = context.interrupts.handle(() => undefined)
  const pass = (): void => void child.kill('SIGTERM')
  process.on('SIGTERM', pass)
  try {
    context.exitCode = await exitCode(child, program)
  } finally {
    process.off('SIGTERM', pass)
  }
}

function exitCode(child: ReturnType<typeof spawn>, program: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', error => {
      const why = systemCode(error) === 'ENOENT' ? 'not found' : error.message
      reject(new InvalidInputError(`running ${program}: ${why}`, { cause: error }))
    })
    child.once('exit', (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]))
    })
  })
}
