#!/usr/bin/env bash
# From an event's due time to its receipt by a consumer at the tail, at a tenth of the highest rate,
# beside the device's durable writes. First the highest rate, then ROUNDS (8) of SECONDS_EACH (5).
. "$(dirname "$0")/node.sh"
rounds=${ROUNDS:-8} seconds=${SECONDS_EACH:-5} batch=${BATCH_BYTES:-16384}
build
start_node

"$bin/loadgen" produce --bootstrap "$kafka" --topic highest --record-size 100 --batch-bytes "$batch" --max --warmup 1s \
    --duration 5s --json "$dir/highest.json" >/dev/null
rate=$(field "$dir/highest.json" events_per_second | cut -d. -f1)
echo "highest rate $rate events/s with batches of $batch bytes; a tenth of it:"
echo "round: produce p50 p99, end to end p50 p99, device p50 p99 (µs)"
for round in $(seq "$rounds"); do
    "$bin/loadgen" e2e --bootstrap "$kafka" --topic tenth --record-size 100 --batch-bytes "$batch" --rate $((rate / 10)) \
        --warmup 1s --duration "${seconds}s" --device "$dir" --json "$dir/e2e.json" >/dev/null
    line="$round:"
    for side in produce consume device; do
        for percentile in p50_us p99_us; do line="$line $(field "$dir/e2e.json" "$side.latency.$percentile")"; done
    done
    echo "$line"
done
