#!/bin/sh
# Installs what is missing, Node 24 included (the devDependency `node` brings it): does nothing when
# node_modules is as new as the lockfile. Runs before node_modules exists, so it is POSIX sh.
set -eu
cd "$(dirname "$0")/.."
installed=node_modules/.package-lock.json

is_stale() {
  [ ! -f "$installed" ] || [ package-lock.json -nt "$installed" ]
}

# The Node that npm scripts and ./cw find.
fits() {
  PATH=$PWD/node_modules/.bin:$PATH node -e '
    const [major, minor] = process.versions.node.split(".").map(Number)
    process.exitCode = major > 24 || (major === 24 && minor >= 12) ? 0 : 1
  ' 2>/dev/null
}

install() {
  if ! command -v npm >/dev/null; then
    echo 'commonweight: npm is needed to install the dependencies' >&2
    echo 'hint: it comes with Node, any version from 20 on' >&2
    exit 1
  fi
  # npm ci empties the folder first: through a link that would be the one of another clone.
  if [ -L node_modules ]; then
    echo "commonweight: node_modules is a link to $(readlink node_modules): npm ci would empty that folder" >&2
    echo 'hint: rm node_modules (the link alone), then run this again' >&2
    exit 1
  fi
  echo 'commonweight: installing dependencies (npm ci)' >&2
  npm ci --loglevel=error >&2
  touch "$installed"
}

# After an installation with --ignore-scripts, or where npm refused the script that unpacks Node.
install_node() {
  echo 'commonweight: the Node on PATH is older than 24.12; installing one here' >&2
  npm rebuild node --ignore-scripts=false --loglevel=error >&2 || true
  fits && return
  echo 'commonweight: there is no Node 24.12 or later' >&2
  echo 'hint: install one, or allow the install script of the package "node" and run npm ci' >&2
  exit 1
}

if ! is_stale && { [ -x node_modules/.bin/node ] || fits; }; then exit 0; fi
. scripts/lock.sh
lock setup 'installs the dependencies'
if is_stale; then install; fi
if [ ! -x node_modules/.bin/node ] && ! fits; then install_node; fi
