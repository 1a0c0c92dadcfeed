#!/bin/bash
# Half an hour of real programs under the agent at rate 1, with a client that pulls every heap every second.
#
#   test/soak.sh [MINUTES] [BUILD_FOLDER]        default: 30 build
#
# One redis-server lives all the time under redis-benchmark and receives the same data as a second one without the agent;
# beside it python3, node and g++ run again and again, each compared (output, errors, exit status) with a run without the agent.
# Prints a table; the exit status is 1 when anything differed, failed, or crashed. Ends every process that it started.
set -u
minutes=${1:-30}
build=$(realpath "${2:-build}")
agent=$(find "$build" -name libprofagent.so -not -path '*.p/*' | head -1)
[ -n "$agent" ] || { echo "no libprofagent.so in $build" >&2; exit 2; }

work=$(mktemp -d /tmp/soak-XXXXXX)
mkdir "$work/sockets"
children=()
cleanup() {
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null; done
  wait 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

under=(env "LD_PRELOAD=$agent" "PROFAGENT_ADDR=unix://$work/sockets/%p.sock" PROFAGENT_MEM_PROFILE_RATE=1
  'PROFAGENT_PROGRAMS=*')  # compilers would stay dormant
declare -A runs=() differ=()
for name in redis python3 node g++; do runs[$name]=0 differ[$name]=0; done
problem() { echo "$1" >>"$work/problems"; }

# --- the client ------------------------------------------------------------------------------------------------------
pull_for_ever() {
  while sleep 1; do
    for socket in "$work"/sockets/*.sock; do
      [ -S "$socket" ] || continue
      pid=$(basename "$socket" .sock)
      body="$work/heap.$pid"
      if curl -sS --fail -m 60 --unix-socket "$socket" -o "$body" http://localhost/debug/pprof/heap 2>"$body.err" &&
        gzip -t "$body" 2>>"$body.err"; then
        echo "$pid" >>"$work/pulled"
      elif kill -0 "$pid" 2>/dev/null && sleep 1 && kill -0 "$pid" 2>/dev/null; then
        # It lives on, so it was not its end that cut the answer off.
        problem "pull from $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-60)): $(cat "$body.err")"
      fi
      rm -f "$body" "$body.err"
    done
  done
}

# --- the workloads ---------------------------------------------------------------------------------------------------
cat >"$work/load.py" <<'PY'
import hashlib, json, re, threading
def work(seed, out):
    rows = [{"id": i * seed, "text": "word%d " % (i % 97) * (i % 23)} for i in range(20000)]
    for _ in range(15):
        text = json.dumps(rows, sort_keys=True)
        rows = json.loads(text)
    out[seed] = hashlib.sha256(text.encode()).hexdigest(), len(re.findall(r"word\d7", text)), len(json.loads(text))
out = {}
threads = [threading.Thread(target=work, args=(s, out)) for s in range(1, 5)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sorted(out.items()))
PY
cat >"$work/load.js" <<'JS'
const zlib = require('zlib'), crypto = require('crypto');
let state = 12345, total = 0;
const next = () => (state = (state * 1103515245 + 12345) & 0x7fffffff);
const h = crypto.createHash('sha256');
for (let round = 0; round < 250; round++) {
  const parts = [];
  for (let i = 0; i < 5000; i++) parts.push({ id: next(), text: 'x'.repeat(next() % 50) });
  const packed = zlib.gzipSync(JSON.stringify(parts));
  const rows = JSON.parse(zlib.gunzipSync(packed));
  total += rows.length;
  h.update(JSON.stringify(rows));
}
console.log(total, h.digest('hex'));
JS
{
  echo '#include <algorithm>'
  echo '#include <map>'
  echo '#include <regex>'
  echo '#include <string>'
  echo '#include <unordered_map>'
  echo '#include <vector>'
  for i in $(seq 1 120); do
    echo "template <int N> struct T$i { std::map<std::string, std::vector<int>> m; std::unordered_map<int, std::string> u;"
    echo "  int f() { m[std::to_string(N)].push_back(N); u[N] = \"x\"; auto& v = m.begin()->second;"
    echo "    std::sort(v.begin(), v.end(), [](int a, int b) { return a + $i < b + $i; }); return (int)v.size(); } };"
    echo "int g$i() { return T$i<$i>().f(); }"
  done
  echo 'bool h(const std::string& s) { return std::regex_match(s, std::regex("a+b*")); }'
} >"$work/large.cc"
python=$(command -v /usr/bin/python3 || command -v python3)

declare -A command=(
  [python3]="$python $work/load.py"
  [node]="node $work/load.js"
  ["g++"]="g++ -std=c++17 -O1 -S -o - $work/large.cc"
)
names=()
for name in python3 node g++; do
  program=${command[$name]%% *}
  if ! command -v "$program" >/dev/null; then echo "not installed, left out: $name"; continue; fi
  names+=("$name")
  ${command[$name]} >"$work/$name.out" 2>"$work/$name.err"
  echo $? >"$work/$name.status"
done
run_once() {
  local name=$1
  "${under[@]}" ${command[$name]} >"$work/now.out" 2>"$work/now.err"
  echo $? >"$work/now.status"
  runs[$name]=$((runs[$name] + 1))
  for what in out err status; do
    cmp -s "$work/$name.$what" "$work/now.$what" && continue
    differ[$name]=$((differ[$name] + 1))
    problem "$name: $what differs: $(diff "$work/$name.$what" "$work/now.$what" | head -3 | cut -c1-200)"
  done
}

# --- redis -----------------------------------------------------------------------------------------------------------
start_redis() {  # PORT-FILE PREFIX...
  local file=$1 port
  shift
  for port in $(shuf -i 20000-40000 -n 20); do
    "$@" redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work" \
      --enable-debug-command yes >"$work/redis.log" 2>&1 &
    local pid=$!
    for _ in $(seq 100); do
      if redis-cli -p "$port" ping >/dev/null 2>&1; then
        children+=("$pid")
        echo "$port $pid" >"$file"
        return
      fi
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  echo "redis does not start: $(tail -3 "$work/redis.log")" >&2
  exit 2
}
same_data() {  # ROUND
  "$python" - "$1" >"$work/commands" <<'PY'
import random, sys
r = random.Random(int(sys.argv[1]))
for i in range(20000):
    key = "k%d" % r.randrange(30000)
    kind = r.randrange(4)
    if kind == 0: print("SET s%s %s" % (key, "v" * r.randrange(1, 400)))
    elif kind == 1: print("RPUSH l%s %d" % (key, i))
    elif kind == 2: print("HSET h%s f%d %s" % (key, r.randrange(30), "v" * r.randrange(1, 100)))
    else: print("DEL s%s l%s" % (key, key))
PY
  for port in "$port_alone" "$port_under"; do
    redis-cli -p "$port" -n 1 --pipe <"$work/commands" >/dev/null 2>&1 || problem "redis on $port refused the data"
  done
  runs[redis]=$((runs[redis] + 1))
  # redis-benchmark fills database 0 with data that nobody can compare; both servers drop that first.
  local a b
  redis-cli -p "$port_under" -n 0 flushdb >/dev/null
  a=$(redis-cli -p "$port_alone" debug digest) b=$(redis-cli -p "$port_under" debug digest)
  [ "$a" = "$b" ] && [ ${#a} -eq 40 ] && return
  differ[redis]=$((differ[redis] + 1))
  problem "redis: digest $a without, $b under the agent"
}
rss() { awk '/VmRSS/ { print $2 }' "/proc/$1/status" 2>/dev/null; }

start_redis "$work/alone"
start_redis "$work/under" "${under[@]}"
read -r port_alone _ <"$work/alone"
read -r port_under redis_pid <"$work/under"
pull_for_ever &
children+=($!)

end=$(($(date +%s) + minutes * 60))
round=0
first_rss=$(rss "$redis_pid")
while [ "$(date +%s)" -lt "$end" ]; do
  round=$((round + 1))
  redis-benchmark -p "$port_under" -n 100000 -r 20000 -d 100 -q -t set,get,lpush,lpop,hset,incr >"$work/benchmark" 2>&1 ||
    problem "redis-benchmark: $(tail -1 "$work/benchmark")"
  same_data "$round"
  for name in "${names[@]}"; do run_once "$name"; done
  kill -0 "$redis_pid" 2>/dev/null || { problem "redis-server is gone"; break; }
done
last_rss=$(rss "$redis_pid")
curl -sS -m 10 --unix-socket "$work/sockets/$redis_pid.sock" http://localhost/debug/pprof/agent >"$work/agent.json" ||
  problem "no last answer from redis"

# --- the result ------------------------------------------------------------------------------------------------------
echo
printf '%-10s %6s %8s\n' workload runs differ
for name in redis "${names[@]}"; do printf '%-10s %6d %8d\n' "$name" "${runs[$name]}" "${differ[$name]}"; done
pulls=$(wc -l <"$work/pulled" 2>/dev/null || echo 0)
processes=$(sort -u "$work/pulled" 2>/dev/null | wc -l)
echo
echo "minutes $minutes, rounds $round, heaps pulled $pulls from $processes processes"
echo "redis-server: ${first_rss:-?} kB at the start, ${last_rss:-?} kB at the end"
grep -E '"(drop|lost|full)[^"]*": *[1-9]' "$work/agent.json" || true
if [ "$pulls" -eq 0 ]; then problem "no heap was pulled"; fi
if [ -s "$work/problems" ]; then
  echo
  echo "problems:"
  head -50 "$work/problems"
  exit 1
fi
