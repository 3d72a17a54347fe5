#!/usr/bin/env bash
# Where the node's CPU time goes under durable produce at full rate: a flame graph for 1 MiB and one for 16 KiB batches,
# and one for four consumers of what is not in memory, in FLAMES (benches/flames). Needs perf and inferno (cargo install
# inferno); stacks are unwound by the debug information of the release build.
. "$(dirname "$0")/node.sh"
flames=${FLAMES:-benches/flames} seconds=${SECONDS_EACH:-8}
command -v inferno-flamegraph >/dev/null || {
    echo "inferno is not installed: cargo install inferno" >&2
    exit 1
}
build
mkdir -p "$flames"

# Samples the node meanwhile, and draws what was seen.
record() {
    local name=$1 title=$2
    shift 2
    perf record --quiet -F 199 --call-graph dwarf,16384 -p "$pid" -o "$dir/$name.perf" -- "$@" >/dev/null
    perf script --no-inline -i "$dir/$name.perf" 2>/dev/null | inferno-collapse-perf >"$dir/$name.folded" 2>/dev/null
    inferno-flamegraph --title "$title" --minwidth 0.4 <"$dir/$name.folded" >"$flames/$name.svg" 2>/dev/null
    rm "$dir/$name.perf"
    echo "$flames/$name.svg: $(awk '{ sum += $NF } END { print sum }' "$dir/$name.folded") ns of CPU time"
}

start_node --segment-bytes 64MiB
for bytes in 1048576 16384; do
    record "produce-$bytes" "durable produce, batches of $bytes bytes" \
        "$bin/loadgen" produce --bootstrap "$kafka" --topic "flame-$bytes" --partitions 8 --connections 2 \
        --batch-bytes "$bytes" --record-size 100 --max --warmup 1s --duration "${seconds}s"
done
"$bin/loadgen" produce --bootstrap "$kafka" --topic cold --partitions 10000 --connections 1 --in-flight 20 \
    --batch-bytes 16384 --record-size 100 --max --duration "${seconds}s" >/dev/null
stop_node
start_node --keep --segment-bytes 64MiB
record cold-reads "four consumers of 10,000 partitions, not in memory" \
    "$bin/loadgen" consume --bootstrap "$kafka" --topic cold --connections 4 --until-end --duration "${seconds}s"
