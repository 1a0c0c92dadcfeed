#!/usr/bin/env bash
# Makes a library with much debug information: copies of what is in archives, under other names.
#
# usage: make_large.sh COPIES LIBRARY ARCHIVE...
set -euo pipefail

copies=$1 library=$2
shift 2
folder=$(mktemp -d "$(dirname "$library")/large.XXXXXX")
trap 'rm -rf "$folder"' EXIT

ld -r --whole-archive "$@" -o "$folder/all.o"
symbols=()
for ((i = 1; i <= copies; ++i)); do
  objcopy --prefix-symbols="copy${i}_" "$folder/all.o" "$folder/copy$i.o"
  symbols+=(--defsym "copy${i}___dso_handle=0")
done
# Nobody will run it.
ld -shared --build-id --unresolved-symbols=ignore-all "${symbols[@]}" "$folder"/copy*.o -o "$library"
