#!/bin/bash
# Compares capture_stack() with libunwind on real programs, at sampled points, and prints one row for each program.
#   test/unwind/differential.sh [seconds for each program, default 5]
# Results and the stacks that differ stay in $DIFFERENTIAL_DIR (default: a new temporary folder).
# The classes of differences are explained in differential.cc. Exit status 1: a program had an unexplained difference,
# or more than 0.1 % stacks where neither both agree nor libunwind merely stopped in code without call-frame information.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-5}
dir=${DIFFERENTIAL_DIR:-$(mktemp -d /tmp/differential.XXXXXX)}
mkdir -p "$dir" && chmod 777 "$dir"
umask 000
preload=$dir/differential.so

build() {
  local safe=$root/agent/safe
  "${CXX:-g++}" -std=c++20 -O2 -g -fPIC -shared -fno-exceptions -fno-rtti -fasynchronous-unwind-tables \
    -ftls-model=initial-exec -fno-omit-frame-pointer -fvisibility=hidden -I"$root" -o "$preload" \
    "$root/test/unwind/differential.cc" "$safe"/{sys,rule_cache,walk_cache}.cc "$safe"/cfi*.cc "$safe"/unwind*.cc \
    -Wl,-z,now
}

# under NAME COMMAND...: runs the command with the preload.
under() {
  local name=$1
  shift
  DIFFERENTIAL_FILE=$dir/$name.counts LD_PRELOAD=$preload "$@" >"$dir/$name.out" 2>&1
}

# serve NAME COMMAND...: the same in the background; its process id is in $server.
serve() {
  local name=$1
  shift
  (
    export DIFFERENTIAL_FILE=$dir/$name.counts LD_PRELOAD=$preload
    exec "$@"
  ) >"$dir/$name.out" 2>&1 &
  server=$!
}

# repeat NAME COMMAND...: again and again until the time is up.
repeat() {
  local end=$((SECONDS + seconds))
  while [ $SECONDS -lt $end ]; do under "$@" || return; done
}

run_redis() {
  local server
  serve redis redis-server --port 7391 --save '' --appendonly no
  sleep 1
  redis-benchmark -p 7391 -q -n 1000000 -r 10000 -d 200 -t set,get,lpush,lrange_100,zadd,mset >/dev/null 2>&1 &
  local load=$!
  sleep "$seconds"
  kill $load 2>/dev/null
  redis-cli -p 7391 shutdown nosave >/dev/null 2>&1
  wait $load $server 2>/dev/null
}

run_python3() {
  repeat python3 /usr/bin/python3.11 -c '
import json, re, zlib, sqlite3, functools
@functools.lru_cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
class Node:
    def __init__(self, depth): self.children = [Node(depth - 1) for _ in range(3)] if depth else []
    def count(self): return 1 + sum(child.count() for child in self.children)
for i in range(30):
    text = json.dumps({str(k): [k, {"x": k}] for k in range(3000)})
    json.loads(text); re.findall(r"\d+.*?x", text); zlib.compress(text.encode()); fib.cache_clear(); fib(200)
    Node(7).count(); sorted(range(20000), key=lambda v: -v)
    db = sqlite3.connect(":memory:"); db.execute("create table t(a)"); db.executemany("insert into t values(?)", ((v,) for v in range(3000)))
    try: json.loads("{")
    except ValueError: pass'
}

run_node() {
  repeat node node -e '
const zlib = require("zlib"), crypto = require("crypto");
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
function deep(n) { return n ? deep(n - 1) + 1 : JSON.stringify([...Array(200).keys()]).length; }
const end = Date.now() + 3000;
while (Date.now() < end) {
  fib(22); deep(100); JSON.parse(JSON.stringify([...Array(20000).keys()]));
  zlib.deflateSync(crypto.randomBytes(20000)); crypto.createHash("sha256").update("x".repeat(50000)).digest();
  "abcabcabd".repeat(500).replace(/(a|b)+c/g, "z"); new Map([...Array(5000).keys()].map(k => [k, {k}]));
  try { null.x } catch (error) { error.stack }
}'
}

run_java() {
  cat >"$dir/Load.java" <<'END'
import java.util.*;
public class Load {
  static int deep(int n) { return n == 0 ? new HashMap<String, String>(Map.of("a", "b")).size() : deep(n - 1) + 1; }
  static void work() {
    Map<Integer, String> map = new HashMap<>();
    for (int i = 0; i < 20000; i++) map.put(i, "x" + i);
    Arrays.sort(map.values().toArray());
    deep(200);
    try { deep(1 << 30); } catch (StackOverflowError expected) { }
    try { Object none = null; none.hashCode(); } catch (NullPointerException expected) { }
    new java.util.zip.CRC32().update(map.toString().getBytes());
  }
  public static void main(String[] arguments) throws Exception {
    long end = System.currentTimeMillis() + 3000;
    Thread[] threads = new Thread[3];
    for (int i = 0; i < threads.length; i++) {
      threads[i] = new Thread(() -> { while (System.currentTimeMillis() < end) work(); });
      threads[i].start();
    }
    for (Thread thread : threads) thread.join();
  }
}
END
  repeat java java "$dir/Load.java"
}

run_perl() {
  repeat perl perl -e '
sub deep { my $n = shift; return $n ? deep($n - 1) : join(",", sort map { $_ * 2 } 1 .. 20) }
for (1 .. 40000) { $h{$_ % 1000} .= "x$_"; my $x = deep(20); $x =~ s/(\d+),(\d+)/$2;$1/g; eval { die "no" }; }'
}

run_git() {
  local repo=$dir/repo
  rm -rf "$repo"
  git init -q "$repo"
  for i in $(seq 1 400); do seq $((i * 7)) $((i * 7 + 900)) >"$repo/file$i"; done
  git -C "$repo" add . && git -C "$repo" -c user.name=a -c user.email=b commit -qm one
  for i in $(seq 1 2 400); do seq $((i * 5)) $((i * 5 + 800)) >"$repo/file$i"; done
  git -C "$repo" add . && git -C "$repo" -c user.name=a -c user.email=b commit -qm two
  repeat git sh -c "cd $repo && git log -p && git gc -q --aggressive && git grep -c 77 && git fsck --full && git blame file7"
}

run_gcc() {
  printf '#include <map>\n#include <regex>\n#include <string>\n#include <iostream>\nint main(int c, char** v) { std::map<std::string, int> m; m[v[0]] = c; std::cout << std::regex_match(v[0], std::regex("a*b")) << m.size(); }\n' >"$dir/load.cc"
  repeat gcc g++ -O2 -c "$dir/load.cc" -o "$dir/load.o"
}

run_sqlite3() {
  repeat sqlite3 sqlite3 :memory: "
create table t(a integer primary key, b, c);
with recursive n(x) as (select 1 union all select x+1 from n where x<60000) insert into t select x, x*7%1000, hex(x) from n;
create index i on t(b);
select b, count(*), max(c), group_concat(a) from t group by b order by 2 desc limit 3;
select count(*) from t x join t y on x.a=y.b where x.c like '%3%';
update t set c = upper(c) || 'y' where b < 300; select json_group_array(c) from t where a < 2000;"
}

run_postgres() {
  local bin
  bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
  local as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  [ "$(id -u)" = 0 ] || as=()
  rm -rf "$dir/pg"
  under postgres "${as[@]}" "$bin/initdb" -D "$dir/pg" -A trust
  local server
  serve postgres "${as[@]}" "$bin/postgres" -D "$dir/pg" -p 7392 -k "$dir" -c fsync=off
  sleep 2
  "${as[@]}" "$bin/pgbench" -h "$dir" -p 7392 -i -q postgres >"$dir/pgbench.out" 2>&1
  "${as[@]}" "$bin/pgbench" -h "$dir" -p 7392 -c 4 -T "$seconds" postgres >>"$dir/pgbench.out" 2>&1
  kill -INT $server
  wait $server
}

run_nginx() {
  mkdir -p "$dir/www"
  seq 1 20000 >"$dir/www/numbers.txt"
  cat >"$dir/nginx.conf" <<END
daemon off; worker_processes 2; pid $dir/nginx.pid; error_log $dir/nginx.log; user root;
env LD_PRELOAD; env DIFFERENTIAL_FILE;
events { worker_connections 256; }
http { access_log $dir/access.log; gzip on; gzip_types text/plain; gzip_comp_level 6; types { text/plain txt; } keepalive_requests 100000;
  server { listen 127.0.0.1:7393; root $dir/www; location ~ ^/re/([a-z]+)/(\d+)$ { return 200 "\$1 \$2\n"; } } }
END
  local server
  serve nginx nginx -c "$dir/nginx.conf"
  sleep 1
  timeout "$seconds" curl -s --compressed "http://127.0.0.1:7393/numbers.txt?[1-100000]" >/dev/null &
  local load=$!
  timeout "$seconds" curl -s "http://127.0.0.1:7393/re/abc/[1-1000000]" >/dev/null
  wait $load
  kill $server
  wait $server
}

row() {
  python3 - "$dir" "$@" <<'END'
import os, struct, sys
folder, name = sys.argv[1:3]
path = f"{folder}/{name}.counts"
if not os.path.exists(path):
    print(f"{name:10} did not run"); sys.exit(1)
signal, malloc, same, stops, no_cfi, oracle, other, frames, incomplete = struct.unpack("<9Q", open(path, "rb").read()[:72])
samples = signal + malloc
share = 100 * same / max(samples, 1)
print(f"{name:10} {signal:9} {malloc:9} {same:9} {share:9.3f} {stops:7} {no_cfi:7} {oracle:7} {other:7} {frames / max(samples, 1):8.1f} {incomplete:10}")
sys.exit(0 if samples > 0 and other == 0 and (same + stops) / samples >= 0.999 else 1)
END
}

build || exit 2
printf '%-10s %9s %9s %9s %9s %7s %7s %7s %7s %8s %10s\n' program signal malloc identical percent stops no_cfi oracle other depth incomplete
status=0
for program in ${PROGRAMS:-redis python3 node java perl git gcc sqlite3 postgres nginx}; do
  rm -f "$dir/$program.counts" "$dir/$program.counts.txt"
  "run_$program" >/dev/null 2>"$dir/$program.err"
  row "$program" || status=1
done
echo "details: $dir"
exit $status
