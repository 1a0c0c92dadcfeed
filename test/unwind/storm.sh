#!/bin/bash
# Builds and runs the storm: test/unwind/storm.sh [seconds, default 10]. Exit status 0: no crash, no hang, no wrong stack.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-10}
dir=$(mktemp -d /tmp/storm.XXXXXX)
trap 'rm -rf "$dir"' EXIT
safe=$root/agent/safe
flags=(-std=c++20 -O2 -g -I"$root")
"${CXX:-g++}" "${flags[@]}" -shared -fPIC "$root/test/unwind/storm_plugin.cc" -o "$dir/plugin.so"
"${CXX:-g++}" "${flags[@]}" -fasynchronous-unwind-tables "$root/test/unwind/storm.cc" "$safe"/{sys,rule_cache,walk_cache}.cc \
  "$safe"/cfi*.cc "$safe"/unwind*.cc -o "$dir/storm" -pthread
timeout $((seconds + 60)) "$dir/storm" "$dir/plugin.so" "$seconds"
