#!/usr/bin/env bash
# Shows profagent at work: a real redis, not rebuilt, under load, and `go tool pprof` looking into its heap, at its CPU time, at
# what its threads wait for, and at where all their time goes.
#
# Installs what is missing, builds the library, and leaves nothing behind but the build folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

scripts/setup.sh demo
export PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin

scratch=$(mktemp -d)
redis=
stop_redis() {
  if [[ -n $redis ]]; then
    kill "$redis" 2>/dev/null || true
    wait "$redis" 2>/dev/null || true
  fi
  redis=
}
clean_up() {
  stop_redis
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
  echo "demo.sh: $1" >&2
  [[ ! -s $2 ]] || cat "$2" >&2
  exit 1
}

echo "building build/libprofagent.so"
if [[ ! -f build/build.ninja ]]; then
  meson setup build -Dtests=false >"$scratch/log" 2>&1 || fail "meson setup failed" "$scratch/log"
fi
ninja -C build libprofagent.so >"$scratch/log" 2>&1 || fail "the build failed" "$scratch/log"

cd "$scratch"  # redis and pprof write where they stand
# pprof keeps a copy of each profile, and a Go that has no cache of its own needs a folder for one.
export PPROF_TMPDIR=$scratch HOME=${HOME:-$scratch}

# The command as one could type it.
show() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[[:alnum:]_./:=,@\&-]+$ ]] || word="'$word'"
    line+=" $word"
  done
  printf '\n$%s\n' "$line"
}

profile() {
  show go tool pprof "$@"
  go tool pprof "$@" >out 2>log || fail "pprof failed" log
  cut -c1-110 out
}

load() {
  redis-benchmark -p "$port" -r 100000 -d 512 -q "$@" | tr '\r' '\n' | grep 'requests per second'
}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# start_redis [OPTION...]: sets $address, where its agent serves: port 6060, or the next free one.
start_redis() {
  local try
  show LD_PRELOAD=build/libprofagent.so redis-server --port "$port" "$@"
  rm -f agent.log
  LD_PRELOAD=$root/build/libprofagent.so PROFAGENT_LOG=info PROFAGENT_LOG_FILE=$scratch/agent.log \
    redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$scratch" "$@" >redis.log 2>&1 &
  redis=$!
  for ((try = 0; try < 100; try++)); do
    if redis-cli -p "$port" ping >/dev/null 2>&1; then break; fi
    kill -0 "$redis" 2>/dev/null || fail "redis-server ended" redis.log
    sleep 0.1
  done
  address=$(sed -n 's/.*serving on \(127\.0\.0\.1:[0-9]*\).*/\1/p' agent.log | head -n 1)
  [[ -n $address ]] || fail "the agent does not serve" agent.log
}

start_redis
show redis-benchmark -p "$port" -r 100000 -d 512 -t set,lpush,hset -n 200000
load -t set,lpush,hset -n 200000

profile -top -nodecount=6 "http://$address/debug/pprof/heap"
# Who asked redis' own allocator functions?
profile -top -nodecount=10 -hide='^z[a-z]*alloc|^_*sds|^\[' "http://$address/debug/pprof/heap"

show redis-benchmark -p "$port" -r 100000 -d 512 -t lpush -n 200000 "&"
load -t lpush -n 200000 >/dev/null &
profile -top -nodecount=4 -sample_index=alloc_space "http://$address/debug/pprof/allocs?seconds=2"
wait $!

show redis-benchmark -p "$port" -r 100000 -d 512 -t set,lpush,hset -n 400000 "&"
load -t set,lpush,hset -n 400000 >/dev/null &
profile -top -nodecount=12 "http://$address/debug/pprof/profile?seconds=5"
wait $!

# With one more thread for input and output: what does it wait for, and who lets it go? Nothing is recorded until asked.
stop_redis
start_redis --io-threads 2 --io-threads-do-reads yes
bursts() {
  local i
  for ((i = 0; i < 12; i++)); do
    load -c 50 -t set -n 1000
    sleep 0.2
  done
}
for kind in block mutex; do
  show redis-benchmark -p "$port" -r 100000 -d 512 -c 50 -t set -n 1000 "&"
  bursts >/dev/null 2>&1 &
  profile -top -cum -nodecount=6 -hide='^_|^\[|^clone3$' -focus=pthread_mutex "http://$address/debug/pprof/$kind?seconds=3&rate=1"
  wait $!
done

# What does the main thread do with its time?
show redis-benchmark -p "$port" -r 100000 -d 512 -c 50 -t set -n 1000 "&"
bursts >/dev/null 2>&1 &
profile -top -cum -nodecount=8 -tagfocus=thread=redis-server -tagroot=state -hide='^_|^\[|^clone3$' "http://$address/debug/pprof/wall?seconds=3"
wait $!

# Each further kind of profile gets its lines here.
