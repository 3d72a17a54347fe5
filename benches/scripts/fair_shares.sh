#!/usr/bin/env bash
# What a producer at full rate with 1 MiB batches does to another one at 100 events/s on the same core: alternating runs,
# alone and beside it. ROUNDS (5), SECONDS_EACH (5).
. "$(dirname "$0")/node.sh"
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-5}
build
start_node

small() {
    "$bin/loadgen" produce --bootstrap "$kafka" --topic small --partitions 1 --connections 1 --in-flight 1 --record-size 100 \
        --batch-records 1 --rate 100 --warmup 1s --duration "${seconds}s" --json "$dir/small.json" >/dev/null
    echo "$(field "$dir/small.json" latency.p50_us) $(field "$dir/small.json" latency.p99_us)"
}

echo "round: alone p50 p99, beside p50 p99 (µs), events per second of the greedy one"
for round in $(seq "$rounds"); do
    alone=$(small)
    "$bin/loadgen" produce --bootstrap "$kafka" --topic greedy --partitions 1 --connections 1 --in-flight 5 --record-size 100 \
        --batch-bytes 1048576 --max --warmup 0s --duration "$((seconds + 3))s" --json "$dir/greedy.json" >/dev/null &
    greedy=$!
    sleep 1
    beside=$(small)
    wait "$greedy"
    echo "$round: $alone, $beside, $(field "$dir/greedy.json" events_per_second)"
done
