#!/usr/bin/env bash
# Runs the tests: style (format, lints, documentation, scripts), unit tests, and the end-to-end suites
# on real engines in namespaces of their own. Installs what they need where apt-get can.
# Ends with a line "total: N passed, N failed"; a missing means is a failure, never a skip.
#
# usage: test.sh [all|style|unit]
#        test.sh e2e|SUITE [FILTER]   the scenarios of all suites or of one of those below
#        test.sh arm64 [FILTER]   the plugins packaged for arm64, run by qemu; not a part of "all"
#        test.sh oldkernel [FILTER]   unit tests of pgvol on Debian 12's kernel, in qemu; not a part of "all"
#        test.sh powercut [CUTS]  the power of a machine cut at random under load; not a part of "all"
#   ENGINES="26.1 20.10:smoke 28.5:smoke"   versions of Docker that the scenarios run on, each with all
#                 that applies to it or a selection of minutes; "all" is all of them whole
#   RECOVERY_TRIALS=300   snapshots that "recovery" takes, clones and searches (default: 40), at all levels
#   SURVIVAL=all  not only kills at every step, but engine, machine and disk too
#   BACKUPS=all   backups of servers of every major from 12 to 18
#   LOG_TRIAL_SECONDS=15  how long everything around 50 containers that log fails at random
#   DEAD_SINK_SECONDS=10  how long servers are away while a container logs without a pause
#   PROFILE=dev   packages the plugins of another cargo profile than release
#   E2E_CACHE     keeps Debian roots between runs (default: ~/.cache/pgvol-e2e)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

suites=(spikes volume recovery log client install conformance lifecycle swarm survival)
answer_help "$@"
part=${1:-all} filter=${2:-}
[[ " all style unit arm64 oldkernel powercut e2e ${suites[*]} " = *" $part "* ]] ||
    die "unknown part $part: all, style, unit, arm64, oldkernel, powercut, e2e, ${suites[*]}"
[ "$(id -u)" = 0 ] || die "please run it as root: the tests make namespaces, mounts and loop devices"
# On a disk, not in /tmp, which may be a tmpfs: the engines' state lies here.
work=$(mktemp -d /var/tmp/pgvol-test-XXXXXX)
results=$work/results
: >"$results"
began=$SECONDS failed_steps=0 times='' packaging=''

# What each failed test has said, once more: in a run of an hour it scrolled by long ago. Of a
# scenario without what it says of the engine's state.
why() {
    awk '
        function flush() {
            if (name == "") return
            printf "\n%s\n", name
            for (i = lines > 25 ? lines - 24 : 1; i <= lines; i++) print substr(line[i], 1, 600)
            name = ""
        }
        /^---- .* ----$/ { flush(); name = $0; lines = 0; next }
        /^failures:$/ { flush(); next }
        /^--- failure$/ { lines = 0; next }
        name != "" && NF { line[++lines] = $0 }
        END { flush() }' "$results" >&2
}

# The line is printed however the run ends; what a killed suite has left goes with the directory.
finish() {
    local status=$?
    [ -z "$packaging" ] || kill "$packaging" 2>/dev/null || :
    why
    say "took $((SECONDS - began)) s, of them"$'\n'"$times"
    # A run that ended early has failed, whatever its tests say.
    awk -v status="$status" -v failed="$failed_steps" '
        /^test result:/ { passed += $4; failed += $6 }
        /^engine / {
            if (!($2 in ok)) order[++engines] = $2
            ok[$2] += $3; bad[$2] += $5; apart[$2] += $7
        }
        END {
            for (i = 1; i <= engines; i++) {
                e = order[i]
                printf "engine %s %d passed, %d failed, %d not for it\n", e, ok[e], bad[e], apart[e]
            }
            printf "total: %d passed, %d failed\n", passed, status && !failed ? 1 : failed
        }' "$results"
    rm -rf "$work"
}
trap finish EXIT

# step COMMAND...: runs it, notes a failure and goes on.
step() {
    say "$*"
    local before start=$SECONDS status=0
    before=$(grep -c '^test result: FAILED' "$results") || :
    "$@" 2>&1 | tee -a "$results" || status=$?
    times+=$(printf '%6d s %.90s' $((SECONDS - start)) "$*")$'\n'
    [ "$status" != 0 ] || return 0
    # Tests count for themselves, if they came that far.
    [ "$(grep -c '^test result: FAILED' "$results")" != "$before" ] || failed_steps=$((failed_steps + 1))
    say "FAILED: $*"
}

style() {
    step cargo fmt --all --check
    step cargo clippy --locked --workspace --all-targets -- -D warnings
    # What is private is documented too, for whoever works on it, and may be linked to.
    RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' \
        step cargo doc --locked --workspace --no-deps --document-private-items
    step shellcheck -x .ci/run scripts/*.sh scripts/*/*.sh tests/harness/*.sh volume-plugin/src/client/*/*.sh
}

unit() {
    step cargo test --locked -p plugin-sdk -p pgvol -p pglog
    step cargo test --locked -p plugin-sdk -p pgvol --features pgvol/failpoints -- failpoint killed
    step cargo test --locked -p e2e --lib --bins --test tidy
}

# In the background of whatever else there is to do: most of it is one linker on one core.
package_ahead() {
    "$root/scripts/package.sh" "$work/plugins" >"$work/packaging" 2>&1 &
    packaging=$!
}

# The plugins, packaged by now or after this.
packaged() {
    if [ -n "$packaging" ]; then
        wait "$packaging" || { cat "$work/packaging" >&2; die "the plugins cannot be packaged"; }
        packaging=''
    fi
    [ -e "$work/plugins" ] || "$root/scripts/package.sh" "$work/plugins"
}

e2e() {
    export E2E_WORK=$work
    # All at once, which uses all cores; one after the other they do not.
    [ $# = 1 ] || step cargo test --locked -p e2e --no-run
    for name; do
        if [ "$name" = survival ]; then
            # What ships has no failpoints in it.
            E2E_PLUGINS=$work/failpoints
            [ -e "$E2E_PLUGINS" ] ||
                FEATURES=pgvol/failpoints PROFILE=dev "$root/scripts/package.sh" "$E2E_PLUGINS"
        else
            packaged
            E2E_PLUGINS=$work/plugins
        fi
        export E2E_PLUGINS
        step cargo test --locked -p e2e --test "$name" -- ${filter:+"$filter"}
    done
}

# The compiler of another architecture is in a root of 2 GB, which is why this is asked for by name.
arm64() {
    # shellcheck source=scripts/cross.sh
    . "$root/scripts/cross.sh"
    export E2E_WORK=$work E2E_PLUGINS=$work/plugins ENGINES=${ENGINES:-26.1}
    ARCH=arm64 "$root/scripts/package.sh" "$E2E_PLUGINS"
    cross_root arm64
    step with_qemu cargo test --locked -p e2e --test arm64 -- ${filter:+"$filter"}
}

oldkernel() { step "$root/scripts/oldkernel.sh" "${filter:-image_limits}"; }

powercut() { step "$root/scripts/powercut.sh" "${filter:-20}"; }

need_cargo
need mmdebstrap mmdebstrap debian-archive-keyring
for package in shellcheck jq; do need $package $package; done
need mkfs.btrfs btrfs-progs
need mkfs.xfs xfsprogs
need losetup mount
# A fluentd for the sink's tests; its own peers come from npm.
need npm npm
case $part in
    all) package_ahead; style; unit; e2e "${suites[@]}" ;;
    style | unit | arm64 | oldkernel | powercut) "$part" ;;
    e2e) e2e "${suites[@]}" ;;
    *) e2e "$part" ;;
esac
[ "$failed_steps" = 0 ] && ! grep -q '^test result: FAILED' "$results"
