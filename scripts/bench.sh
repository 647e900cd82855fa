#!/usr/bin/env bash
# Measures what the plugins cost beside Docker's own drivers, on an engine of its own, and prints the
# machine and one line per figure: pgbench tps on a pgvol volume over a `local` one; checkpoints, and
# reads of pg_control, per second likewise, which is what the guard costs; log lines per
# second of pglog over json-file; CPU time per line likewise; lines per second to a fluentd and to a
# syslog server over Docker's drivers of that name, until the last line has arrived at a receiver that
# only counts; `docker logs --since` at the end of a big log over json-file's time; what snapshots under
# load take and how soon clones answer; what pglog takes of memory with a thousand streams, and how long a
# container takes to start and to stop beside them. Each is the median of pairwise ratios of
# interleaved runs, with its 90 % interval. About twenty minutes.
#
# usage: bench.sh [tps] [checkpoints] [lines] [sinks] [since] [snapshots] [containers]     all figures, or these
#   PAIRS=10  SCALE=60  TPS_SECONDS=15  CHECKPOINT_SECONDS=5  LOG_LINES=3000000  SINK_LINES=1000000
#   SINCE_MEGABYTES=200  SNAPSHOT_SCALE=70  STREAMS=1000
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "please run it as root: it makes namespaces, mounts and control groups"
need_cargo
need mmdebstrap mmdebstrap debian-archive-keyring
need nsenter util-linux
need mount mount

cd "$root"
need jq jq
plugins=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/plugins
"$root/scripts/package.sh" "$plugins"
E2E_PLUGINS=$plugins cargo run --quiet --release --locked "${release_flags[@]}" -p e2e --bin bench -- "$@"
