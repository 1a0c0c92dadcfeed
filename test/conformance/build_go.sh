#!/bin/sh
# Builds one Go program: build_go.sh GO SOURCE_OR_PACKAGE OUTPUT CACHE
# In GOPATH mode with Debian's golang-github-google-pprof-dev, so that no network is needed; Go 1.19 and later.
set -eu
go=$1 what=$2 output=$3 cache=$4
mkdir -p "$cache"
# Where Debian puts Go libraries; GO111MODULE=off finds them there.
GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS= GOCACHE=$cache HOME=$cache GOTOOLCHAIN=local CGO_ENABLED=0
export GOPATH GO111MODULE GOFLAGS GOCACHE HOME GOTOOLCHAIN CGO_ENABLED
if [ -d "$what" ]; then
  cd "$what"
  what=.
fi
exec "$go" build -o "$output" "$what"
