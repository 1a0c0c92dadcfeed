#!/usr/bin/env bash
# Shows profagent at work: a real redis, not rebuilt, under load, and `go tool pprof` looking into its heap.
#
# Installs what is missing, builds the library, and leaves nothing behind but the build folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

scripts/setup.sh demo
export PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin

if [[ ! -f build/build.ninja ]]; then meson setup build -Dtests=false >/dev/null; fi
ninja -C build --quiet libprofagent.so

scratch=$(mktemp -d)
redis=
clean_up() {
  if [[ -n $redis ]]; then
    kill "$redis" 2>/dev/null || true
    wait "$redis" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

show() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
show "LD_PRELOAD=build/libprofagent.so redis-server --port $port"
cd "$scratch"  # redis and pprof write where they stand
LD_PRELOAD=$root/build/libprofagent.so PROFAGENT_LOG=info PROFAGENT_LOG_FILE=$scratch/agent.log \
  redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$scratch" >redis.log 2>&1 &
redis=$!
for ((try = 0; try < 100; try++)); do
  if redis-cli -p "$port" ping >/dev/null 2>&1; then break; fi
  kill -0 "$redis" 2>/dev/null || { cat redis.log; exit 1; }
  sleep 0.1
done

show "redis-benchmark -p $port -t set,lpush,hset -n 200000 -r 100000 -d 512"
redis-benchmark -p "$port" -t set,lpush,hset -n 200000 -r 100000 -d 512 -q | tr '\r' '\n' | grep 'requests per second'

# The log tells where the agent serves: port 6060, or the next free one.
address=$(sed -n 's/.*serving on \(127\.0\.0\.1:[0-9]*\).*/\1/p' agent.log | head -1)
[[ -n $address ]] || { echo "the agent does not serve:"; cat agent.log; exit 1; }

# pprof keeps a copy of what it fetched.
export PPROF_TMPDIR=$scratch HOME=${HOME:-$scratch}
profile() {
  show "go tool pprof $*"
  go tool pprof "$@" 2>pprof.log || { cat pprof.log; exit 1; }
}

profile -top -nodecount=15 "http://$address/debug/pprof/heap"
profile -top -nodecount=5 -sample_index=alloc_space "http://$address/debug/pprof/heap"
# Other kinds of profiles get their lines here.
