#!/bin/sh
# Builds dist/ from nothing. With --if-stale: unless another process did while we waited for it.
# Compiles beside the old dist and swaps them at the end: what runs meanwhile never sees half a build.
set -eu
cd "$(dirname "$0")/.."

is_fresh() {
  [ -f dist/.built ] &&
    [ -z "$(find src daemon cli tsconfig.json package.json -newer dist/.built -print | head -n 1)" ]
}

. scripts/lock.sh
lock build 'builds dist/'

if [ "${1-}" = --if-stale ]; then
  is_fresh && exit 0
  echo 'commonweight: building' >&2
fi

# Its time is the build's start: what is edited during the build is newer.
mkdir "$lock/dist"
touch "$lock/dist/.built"
compile() { PATH=$PWD/node_modules/.bin:$PATH tsc --outDir "$lock/dist"; }
if [ "${1-}" = --if-stale ]; then
  # Types are checked by `npm run check`; who is in the middle of an edit may still run the command.
  compile >/dev/null || echo 'commonweight: there are type errors; npm run types shows them' >&2
else
  compile >&2
fi
if [ -d dist ]; then mv dist "$lock/old"; fi
mv "$lock/dist" dist
