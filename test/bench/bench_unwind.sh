#!/bin/bash
# Time and instructions per frame of capture_stack(): test/bench/bench_unwind.sh
# Built twice: frames without and with frame pointers (only there a frame-pointer walk is possible).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d /tmp/bench_unwind.XXXXXX)
trap 'rm -rf "$dir"' EXIT
safe=$root/agent/safe
flags=(-std=c++20 -O2 -g -I"$root")
for source in "$safe"/{sys,rule_cache,walk_cache}.cc "$safe"/cfi*.cc "$safe"/unwind*.cc; do
  "${CXX:-g++}" "${flags[@]}" -fPIC -fno-exceptions -fno-rtti -fasynchronous-unwind-tables -ftls-model=initial-exec -fno-plt \
    -fno-omit-frame-pointer -fno-stack-protector -c "$source" -o "$dir/$(basename "$source").o"
done
"${CXX:-g++}" "${flags[@]}" -fomit-frame-pointer "$root/test/bench/bench_unwind.cc" "$dir"/*.o -o "$dir/without"
"${CXX:-g++}" "${flags[@]}" -fno-omit-frame-pointer "$root/test/bench/bench_unwind.cc" "$dir"/*.o -o "$dir/with"
echo "frames without frame pointers"
"$dir/without"
echo "frames with frame pointers"
FRAME_POINTERS=1 "$dir/with"
command -v valgrind >/dev/null || exit 0
count() {  # MODE DEPTH: instructions of 1000 captures
  valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
    --toggle-collect='profagent::safe::capture_stack*' "$dir/without" "$1" "$2" 1000 2>&1 | sed -n 's/.*Collected : //p'
}
for mode in warm repeated; do
  few=$(count $mode 50)
  many=$(count $mode 200)
  awk -v mode=$mode -v few="$few" -v many="$many" 'BEGIN {
    frame = (many - few) / 150 / 1000
    printf "%-8s %5.1f instructions a frame, %4.0f for the walk itself\n", mode, frame, few / 1000 - 50 * frame }'
done
