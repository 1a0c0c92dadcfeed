#!/usr/bin/env bash
# Installs what is missing on a Debian 12 machine, by group, and nothing else.
#
#   scripts/setup.sh [GROUP...]        groups: build test long demo bench (default: build test)
#
# Does nothing, and needs no rights, when everything is there. Uses sudo when not root. Never starts a
# service: the packages of redis or nginx would do so on their own.
set -euo pipefail

# One row for each package: its groups, its name, and optionally a command whose presence is as good as the
# package (a machine may have its own Go or Python, from elsewhere).
packages='
build,test,demo,bench  g++
build,test,demo,bench  meson
build,test,demo,bench  ninja-build          ninja
build,test,demo,bench  pkg-config           pkg-config
build,test,demo,bench  python3              python3
build,test,demo,bench  libboost-dev
build,test,demo,bench  libprotozero-dev
build,test,demo,bench  nlohmann-json3-dev
build,test,demo,bench  zlib1g-dev
build,test,demo,bench  liblzma-dev
build,test,demo,bench  libiberty-dev
build,test,demo,bench  valgrind
test                   llvm-14
test                   dwz
test                   clang-14
test                   clang-format-14
test                   clang-tidy-14
test                   libclang-rt-14-dev
test                   catch2
test                   libprotobuf-dev
test                   protobuf-compiler
test                   libunwind-dev
test                   golang-github-google-pprof-dev
test                   libjemalloc-dev
test                   libtcmalloc-minimal4
test                   nginx-light          nginx
test                   sqlite3              sqlite3
test                   curl                 curl
test                   xz-utils             xz
test                   memcached            memcached
test                   python3-prometheus-client
test                   google-perftools     google-pprof
long                   mariadb-server       mariadbd
long                   sysbench             sysbench
long                   rustc                rustc
long                   chromium             chromium
long                   chromium-driver      chromedriver
long                   gdb                  gdb
long                   libc6-dbg
long                   libgsl-dbg
long                   coinor-libipopt1v5-dbg
long                   libmonosgen-2.0-1-dbg
long                   librados2-dbg
test,demo              redis-server         redis-server
test,demo              redis-tools          redis-benchmark
test,demo              golang-go            go
bench                  heaptrack
bench                  libgoogle-perftools4
bench                  libjemalloc2
bench                  linux-perf           perf
'

# A Go that is installed but not on the PATH is a Go.
PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin

is_installed() {
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

list_missing() {
  local wanted=" $* " groups package command group
  while read -r groups package command; do
    [[ -n $package ]] || continue
    for group in ${groups//,/ }; do
      [[ $wanted == *" $group "* ]] || continue
      if [[ -n $command ]] && command -v "$command" >/dev/null; then break; fi
      is_installed "$package" || echo "$package"
      break
    done
  done <<<"$packages"
}

[[ $# -gt 0 ]] || set -- build test
for group in "$@"; do
  if ! grep -qE "^[a-z,]*\b$group\b[a-z,]* " <<<"$packages"; then
    echo "setup.sh: no such group: $group" >&2
    exit 2
  fi
done

mapfile -t missing < <(list_missing "$@")
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: not root and no sudo; please install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup.sh: installing ${missing[*]}"
# policy-rc.d answering 101 is Debian's way to say "do not start services" (invoke-rc.d(8)). One that is there
# already belongs to the machine and stays.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends)
log=$(mktemp)
# An index may be old or empty: refresh it only when the install fails without.
if ! "${install[@]}" "${missing[@]}" >"$log" 2>&1 </dev/null; then
  if ! { "${as_root[@]}" apt-get update -qq && "${install[@]}" "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
fi
rm -f "$log"
