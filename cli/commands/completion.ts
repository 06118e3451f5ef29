/** completion: a script that completes verbs, flags, REFs and files. */

import type { Command } from 'commander'
import { InvalidInputError } from '../../src/core/errors.ts'
import { completionScript, shells } from '../completion.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'

const bashFolder = '~/.local/share/bash-completion/completions'

export function define(command: Command, context: Context): void {
  command
    .description('Prints a completion script for a shell; it serves both commonweight and cw.')
    .argument('<SHELL>', shells.join(', '))
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          { command: `completion bash > ${bashFolder}/commonweight`, about: 'bash' },
          {
            command: 'completion zsh > ~/.zfunc/_commonweight',
            about: 'zsh, with ~/.zfunc in fpath',
          },
          {
            command: 'completion fish > ~/.config/fish/completions/commonweight.fish',
            about: 'fish',
          },
        ],
        exits: [],
      }),
    )
    .action((shell: string) => complete(command.parent ?? command, context, shell))
}

async function complete(program: Command, context: Context, name: string): Promise<void> {
  const shell = shells.find(each => each === name)
  if (shell === undefined) {
    throw new InvalidInputError(`no completion for ${name}`, {
      hint: `known: ${shells.join(', ')}`,
    })
  }
  for (const verb of program.commands) await context.defineVerb(verb)
  context.output.text(completionScript(program, shell))
}
