#!/usr/bin/env bash
# Measures what the plugins cost beside Docker's own drivers, on an engine of its own, and prints the
# machine and one line per figure: pgbench tps on a pgvol volume over a `local` one; checkpoints, and
# reads of pg_control, per second likewise, which is what the guard costs; log lines per
# second of pglog over json-file; CPU time per line likewise; lines per second to a fluentd and to a
# syslog server over Docker's drivers of that name, until the last line has arrived at a receiver that
# only counts; `docker logs --since` at the end of a big log over json-file's time; what snapshots under
# load take, what a client notices of them, how soon clones answer, of prepared snapshots too, and what a
# snapshot every ten seconds and a hundred of them cost the server; what pglog takes of memory with a
# thousand streams, and how long a container takes to start and to stop beside them. Each is the median of
# pairwise ratios of interleaved runs, with its 90 % interval. About an hour.
#
# usage: bench.sh [tps] [checkpoints] [lines] [sinks] [since] [snapshots] [under-snapshots] [containers]
#                                                                 all figures, or these
#   PAIRS=10  SCALE=60  TPS_SECONDS=15  CHECKPOINT_SECONDS=5  LOG_LINES=3000000  SINK_LINES=1000000
#   SINCE_MEGABYTES=200  SNAPSHOT_SECONDS=10  SNAPSHOTS_BEHIND=100  STREAMS=1000
#   SNAPSHOT_SCALES=70    one after the other; 70,1350 are 1 and 20 GB
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

answer_help "$@"
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
