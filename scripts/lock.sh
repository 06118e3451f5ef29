# Sourced by scripts: `lock NAME WHAT` waits until no other process holds NAME, saying once that it waits for
# the one that does WHAT, and sets $lock, a folder that is ours until the script ends.
lock() {
  lock=.cache/$1.lock
  mkdir -p .cache
  tries=0
  until mkdir "$lock" 2>/dev/null; do
    owner=$(cat "$lock/pid" 2>/dev/null || true)
    tries=$((tries + 1))
    # Whoever is about to end is not worth a word.
    if [ $tries -eq 5 ]; then echo "commonweight: waiting for process ${owner:-?}, which $2" >&2; fi
    # Who was killed leaves its lock behind; who has not written its id yet gets 5 s to do so.
    if [ -n "$owner" ]; then
      kill -0 "$owner" 2>/dev/null || rm -rf "$lock"
    elif [ $tries -gt 50 ]; then
      rm -rf "$lock"
    fi
    sleep 0.1
  done
  trap 'rm -rf "$lock"' EXIT
  trap 'exit 130' INT TERM HUP
  echo $$ >"$lock/pid"
}
