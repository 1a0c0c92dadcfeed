#!/usr/bin/env bash
# Installs what is missing, builds, runs all tests, and ends with a line "N passed, N failed".
#
#   scripts/test.sh [--quick] [--suite NAME]...
#
#   --quick         one build, unit tests only
#   --suite NAME    one build, only this suite (unit, integration, lint); may be repeated
#
# The builds stay, so that a second run is short:
#   build           debugoptimized, GCC: every suite
#   build-asan      AddressSanitizer and UndefinedBehaviorSanitizer, GCC: unit tests
#   build-release   release, GCC: the library compiles and passes the lint of its symbols
#   build-clang     Clang 14: the library compiles
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

suites=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) suites=(unit) ;;
    --suite) suites+=("${2:?--suite needs a name}"); shift ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
  shift
done

export HOME=${HOME:-/tmp}
export PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin
failed_steps=0
logs=()

# A step that fails counts as a failed test; the other steps still run.
step() {
  local begin=$SECONDS name=$1
  shift
  echo "== $name"
  if "$@"; then
    echo "== $name: $((SECONDS - begin)) s"
  else
    echo "== $name: FAILED"
    failed_steps=$((failed_steps + 1))
    return 1
  fi
}

# configure FOLDER [meson option...]
configure() {
  local folder=$1 verb=setup log
  shift
  # A folder that is there may stem from demo.sh, which configures without tests.
  if [[ -f $folder/build.ninja ]]; then verb=configure; fi
  log=$(meson "$verb" "$folder" "$@" 2>&1) || { echo "$log"; return 1; }
}

# compile FOLDER [meson option...]
compile() {
  configure "$@" && ninja -C "$1" --quiet
}

# test_suites FOLDER SUITE...: builds what these suites need and runs them. What failed is in the log, test by test; no log
# is a failure of the step.
test_suites() {
  local folder=$1 suite arguments=()
  shift
  for suite in "$@"; do arguments+=(--suite "$suite"); done
  local log=$folder/meson-logs/testlog.json
  rm -f "$log"
  meson test -C "$folder" --print-errorlogs "${arguments[@]}" </dev/null
  [[ -s $log ]] && cp "$log" "$folder/last-$1.json" && logs+=("$folder/last-$1.json")
}

step packages scripts/setup.sh build test || { echo "0 passed, 1 failed"; exit 1; }

if [[ ${#suites[@]} -gt 0 ]]; then
  step "compile build" compile build -Dtests=true && step "test ${suites[*]}" test_suites build "${suites[@]}"
else
  step "compile build" compile build -Dtests=true && step "test build" test_suites build unit integration lint
  step "configure build-asan" configure build-asan -Dtests=true -Db_sanitize=address,undefined -Doptimization=1 &&
    step "test build-asan" test_suites build-asan unit
  step "compile build-release" compile build-release --buildtype=release -Dtests=false &&
    step "test build-release" test_suites build-release symbols
  CC=clang-14 CXX=clang++-14 step "compile build-clang" compile build-clang -Dtests=false
fi

python3 scripts/sum_tests.py "$failed_steps" "${logs[@]}"
