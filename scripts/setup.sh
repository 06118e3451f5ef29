#!/bin/sh
# Installs what is missing, Node 24 included (the devDependency `node` brings it): does nothing when
# node_modules is as new as the lockfile. Runs before node_modules exists, so it is POSIX sh.
set -eu
cd "$(dirname "$0")/.."
installed=node_modules/.package-lock.json

if [ ! -f "$installed" ] || [ package-lock.json -nt "$installed" ]; then
  if ! command -v npm >/dev/null; then
    echo 'commonweight: npm is needed to install the dependencies' >&2
    echo 'hint: it comes with Node, any version from 20 on' >&2
    exit 1
  fi
  echo 'commonweight: installing dependencies (npm ci)' >&2
  npm ci --loglevel=error >&2
  touch "$installed"
fi

# The Node that npm scripts and ./cw will find.
fits() {
  PATH=$PWD/node_modules/.bin:$PATH node -e '
    const [major, minor] = process.versions.node.split(".").map(Number)
    process.exitCode = major > 24 || (major === 24 && minor >= 12) ? 0 : 1
  ' 2>/dev/null
}
[ -x node_modules/.bin/node ] || fits || {
  # Installed with --ignore-scripts, or npm refused the script that unpacks it.
  echo 'commonweight: the Node on PATH is older than 24.12; installing one here' >&2
  npm rebuild node --ignore-scripts=false --loglevel=error >&2 || true
  fits || {
    echo 'commonweight: no Node 24.12 or later' >&2
    echo 'hint: install one, or allow the install script of the package "node" and run npm ci' >&2
    exit 1
  }
}
