#!/usr/bin/env bash
# Steps of a core above 500 µs, by kind: 10,000 partitions flat out in 16 KiB batches with a cleaner at work, then 8
# partitions in 1 MiB batches, of one node. SECONDS_EACH (10).
. "$(dirname "$0")/node.sh"
seconds=${SECONDS_EACH:-10}
build
start_node --segment-bytes 64MiB

produce() {
    "$bin/loadgen" produce --bootstrap "$kafka" --record-size 100 --max --warmup 0s --duration "${seconds}s" --json "$dir/run.json" "$@" >/dev/null
    echo "$(field "$dir/run.json" events_per_second) events/s, $(metric ringlog_segments_live) segments, $(metric ringlog_cleaned_segments) cleaned"
    curl -fsS "http://$http/metrics" | awk '
        index($1, "ringlog_long_steps_total") == 1 || index($1, "ringlog_longest_step_of_kind_seconds") == 1 {
            match($1, /kind="[a-z_]*"/)
            kind = substr($1, RSTART + 6, RLENGTH - 7)
            if ($1 ~ /^ringlog_long_steps/) steps[kind] += $2
            else longest[kind] = $2 * 1000
        }
        END { for (kind in steps) if (steps[kind] > 0) printf "  %-16s %5d steps above 500 µs, the longest %.1f ms\n", kind, steps[kind], longest[kind] }' | sort
}

echo "10,000 partitions, 16 KiB batches:"
produce --topic many --partitions 10000 --connections 1 --in-flight 20 --batch-bytes 16384 --topic-config retention.bytes=200000
echo "and then 8 partitions, 1 MiB batches (all steps since the start):"
produce --topic few --partitions 8 --connections 4 --in-flight 5 --batch-bytes 1048576
