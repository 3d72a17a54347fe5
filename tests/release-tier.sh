#!/usr/bin/env bash
# The release tier in one command: what CI runs in small counts, at full counts, and the
# demonstration. What each stage printed goes to tests/results/release-DATE-COMMIT.txt, which is
# committed. Run .ci/run first: it installs the clients.
#
#   tests/release-tier.sh [rigs|simulations|RIG]  only those, or that one (kill9, kill_groups,
#                                                 power_cut, text_file, scale, crowd, idle, many_segments);
#                                                 else both, and the demonstration
#
#   RINGLOG_KILL_ROUNDS (500), RINGLOG_KILL_GROUP_ROUNDS (300), RINGLOG_POWER_CUTS (1000),
#   RINGLOG_SIM_SEEDS (10000), RINGLOG_TEXT_FILE_MB (500), RINGLOG_CROWD_MEMBERS (100),
#   RINGLOG_CROWD_PARTITIONS (1000), RINGLOG_CROWD_SECONDS (10), RINGLOG_IDLE_CONNECTIONS (5000)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
exec </dev/null

export RINGLOG_KILL_ROUNDS=${RINGLOG_KILL_ROUNDS:-500}
export RINGLOG_KILL_GROUP_ROUNDS=${RINGLOG_KILL_GROUP_ROUNDS:-300}
export RINGLOG_POWER_CUTS=${RINGLOG_POWER_CUTS:-1000}
export RINGLOG_TEXT_FILE_MB=${RINGLOG_TEXT_FILE_MB:-500}
export RINGLOG_CROWD_MEMBERS=${RINGLOG_CROWD_MEMBERS:-100} RINGLOG_CROWD_PARTITIONS=${RINGLOG_CROWD_PARTITIONS:-1000}
export RINGLOG_CROWD_SECONDS=${RINGLOG_CROWD_SECONDS:-10} RINGLOG_IDLE_CONNECTIONS=${RINGLOG_IDLE_CONNECTIONS:-5000}
export RINGLOG_REQUIRE_CLIENTS=1 CARGO_TERM_COLOR=never
seeds=${RINGLOG_SIM_SEEDS:-10000}

lanes=${1:-all}
commit=$(git rev-parse --short=12 HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || commit=$commit-changed
mkdir -p tests/results
result=tests/results/release-$(date -u +%Y-%m-%d)-$commit.txt
[ "$lanes" = all ] || result=${result%.txt}-$lanes.txt

about() {
    echo "Ringlog release tier"
    echo "commit    $commit"
    echo "date      $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "kernel    $(uname -sr)"
    echo "processor $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs"
    echo "memory    $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
    echo "disk      $(df --output=source,fstype . | tail -n 1)"
    echo "rustc     $(rustc --version)"
    echo "counts    $RINGLOG_KILL_ROUNDS kill rounds and $RINGLOG_KILL_GROUP_ROUNDS with groups," \
        "$RINGLOG_POWER_CUTS power cuts, $seeds seeds, $RINGLOG_TEXT_FILE_MB MB of text"
}

# Runs a stage, keeps going when it fails, and keeps what it printed.
stage() {
    local name=$1 started=$SECONDS outcome=held
    shift
    printf '\n=== %s\n%s\n' "$name" "$*"
    "$@" 2>&1 || outcome=FAILED
    echo "=== $name: $outcome, $((SECONDS - started)) s"
}

all_rigs=(kill9 kill_groups power_cut text_file scale crowd idle many_segments)
case $lanes in
all | rigs) rigs=("${all_rigs[@]}") ;;
simulations) rigs=() ;;
*)
    rigs=("$lanes")
    [[ " ${all_rigs[*]} " == *" $lanes "* ]] || { echo "no lane is called $lanes" >&2; exit 2; }
    ;;
esac

# One rig, on real files and real processes.
rig() {
    local tested=(cargo test --release --workspace --test "$1")
    case $1 in
    kill9) stage "kill -9" "${tested[@]}" -- --nocapture ;;
    kill_groups) stage "kill -9 with groups" "${tested[@]}" -- --nocapture ;;
    power_cut) stage "power cuts" "${tested[@]}" -- --nocapture ;;
    text_file) stage "text file" "${tested[@]}" -- --nocapture ;;
    scale) stage "many partitions" "${tested[@]}" -- --nocapture ;;
    crowd) stage "a large group" "${tested[@]}" -- --nocapture ;;
    idle) stage "idle connections" "${tested[@]}" idle_connections -- --nocapture ;;
    many_segments)
        stage "restart with 100 GB" "${tested[@]}" -- --ignored --nocapture
        ;;
    esac
}

# In the simulator, on one CPU.
simulations() {
    local sim=(target/release/sim --seeds "0..$seeds" --threads 1)
    stage "simulation" "${sim[@]}"
    stage "simulation, power cuts" "${sim[@]}" --power-cuts-only
    stage "simulation, silent corruption" "${sim[@]}" --faults silent
    stage "simulation, the engine's machines" "${sim[@]}" --machines
}

run() {
    about
    # Built before anything is timed, and only what runs, always with the workspace's features of
    # the dependencies; then the rigs, which wait for disks and processes, beside the simulator.
    local built=(--workspace --bin sim --bin ringlog --bin loadgen) rig
    for rig in "${rigs[@]}"; do
        built+=(--test "$rig")
    done
    stage "build" cargo build --release --quiet "${built[@]}"
    local simulated lane=
    simulated=$(mktemp)
    if [ "$lanes" = all ] || [ "$lanes" = simulations ]; then
        simulations >"$simulated" 2>&1 &
        lane=$!
    fi
    for rig in "${rigs[@]}"; do
        rig "$rig"
    done
    [ -z "$lane" ] || wait "$lane"
    cat "$simulated"
    rm "$simulated"
    [ "$lanes" != all ] || stage "demonstration" target/release/loadgen demo
    printf '\nduration  %s s\n' "$SECONDS"
}

# Where the checkout lies says nothing to a reader.
run > >(sed -u "s#$PWD#.#g" | tee "$result") 2>&1
wait
failed=$(sed -n 's/^=== \(.*\): FAILED, .*/\1/p' "$result" | paste -sd ';' -)
if [ -z "$failed" ]; then
    echo "outcome   everything held"
else
    echo "outcome   FAILED: $failed"
fi | tee -a "$result"
echo "written to $result"
[ -z "$failed" ]
