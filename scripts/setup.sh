#!/bin/sh
# Installs what is missing, Node 24 included (the devDependency `node` brings it): does nothing when
# node_modules is as new as the lockfile. Runs before node_modules exists, so it is POSIX sh.
set -eu
cd "$(dirname "$0")/.."
installed=node_modules/.package-lock.json
if [ ! -f "$installed" ] || [ package-lock.json -nt "$installed" ]; then
  echo 'commonweight: installing dependencies (npm ci)' >&2
  npm ci --loglevel=error >&2
fi
