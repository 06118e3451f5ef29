#!/bin/sh
# Commonweight from a clone: finds Node, installs and builds what is missing or stale, runs the command.
# Says on stderr what it does: stdout is the command's. POSIX sh, because it runs before there is a Node.
set -eu

script=$0
while [ -L "$script" ]; do
  target=$(readlink "$script")
  case $target in
    /*) script=$target ;;
    *) script=${script%/*}/$target ;;
  esac
done
root=$(cd "${script%/*}" && pwd -P)

# The devDependency first: it needs no check, and a check costs more than all else here together.
node=$root/node_modules/.bin/node
if [ ! -x "$node" ] || [ "$root/package-lock.json" -nt "$root/node_modules/.package-lock.json" ]; then
  sh "$root/scripts/setup.sh"
  [ -x "$node" ] || node=node
fi

# Folders count too: their time changes when a file in them comes or goes.
stamp=$root/dist/.built
if [ ! -f "$stamp" ] || [ -n "$(cd "$root" && find src daemon cli tsconfig.json package.json \
  -newer dist/.built -print | head -n 1)" ]; then
  sh "$root/scripts/build.sh" --if-stale
fi

exec "$node" "$root/dist/cli/main.js" "$@"
