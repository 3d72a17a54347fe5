#!/usr/bin/env bash
# What one port costs: the same load against a node of CORES (2) cores with a port for each, and with one for all, a fresh
# node each time, in alternating runs: flat out with batches of 1 MiB and of 16 KiB, and 100 events/s one at a time.
# ROUNDS (4), SECONDS_EACH (4).
. "$(dirname "$0")/node.sh"
CORES=${CORES:-2}
rounds=${ROUNDS:-4} seconds=${SECONDS_EACH:-4}
build

produce() {
    "$bin/loadgen" produce --bootstrap "$kafka" --record-size 100 --warmup 1s --duration "${seconds}s" --json "$dir/run.json" "$@" >/dev/null
}

# Events per second with 1 MiB and with 16 KiB, then p50 and p99 of one at a time.
load() {
    start_node "$@"
    for batch in 1048576 16384; do
        produce --topic "flat$batch" --partitions 8 --batch-bytes "$batch" --max --topic-config retention.bytes=268435456
        printf '%s ' "$(field "$dir/run.json" events_per_second | cut -d. -f1)"
    done
    produce --topic single --partitions 8 --connections 1 --in-flight 1 --batch-records 1 --rate 100
    echo "$(field "$dir/run.json" latency.p50_us) $(field "$dir/run.json" latency.p99_us)"
    stop_node
}

echo "round: a port for each core: events/s at 1 MiB and 16 KiB, p50 p99 (µs); one port: the same"
for round in $(seq "$rounds"); do
    echo "$round: $(load); $(load --single-port)"
done
