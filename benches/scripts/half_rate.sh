#!/usr/bin/env bash
# The latency of durable acknowledgements at half the highest rate, open loop, in batches of 16 KiB: with the cleaner at work
# (its default rate), without it, and with a reader of old data beside; a fresh node each, ROUNDS (3) of SECONDS_EACH (4)
# after the first 3 seconds at full rate. Long steps of the core, by kind, on the way.
. "$(dirname "$0")/node.sh"
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-4}
build
produce() { # topic, file, more
    local topic=$1 file=$2
    shift 2
    "$bin/loadgen" produce --bootstrap "$kafka" --topic "$topic" --partitions 8 --connections 4 --in-flight 5 \
        --batch-bytes 16384 --record-size 100 --json "$file" "$@" >/dev/null
}
for what in cleaner nothing reader; do
    case $what in
    cleaner) start_node ;;
    *) start_node --clean-bytes-per-second 0 ;;
    esac
    [ "$what" != reader ] || produce old "$dir/old.json" --max --duration 6s
    produce half "$dir/max.json" --max --duration 3s --topic-config retention.bytes=33554432
    rate=$(($(field "$dir/max.json" events_per_second | cut -d. -f1) / 2))
    for round in $(seq "$rounds"); do
        reader=
        if [ "$what" = reader ]; then
            (while :; do
                chrt --idle 0 "$bin/loadgen" consume --bootstrap "$kafka" --topic old --connections 1 --until-end \
                    --duration 60s >/dev/null
            done) &
            reader=$!
        fi
        produce half "$dir/half.json" --rate "$rate" --warmup 1s --duration "${seconds}s"
        [ -z "$reader" ] || { pkill -P "$reader" || true; kill "$reader"; wait "$reader" 2>/dev/null || true; }
        echo "$what, $rate events/s, round $round: p50 $(field "$dir/half.json" latency.p50_us)," \
            "p99 $(field "$dir/half.json" latency.p99_us) µs; the cleaner ended $(metric ringlog_clean_runs_total) runs"
    done
    curl -fsS "http://$http/metrics" | awk '
        index($1, "ringlog_long_steps_total") == 1 && $2 > 0 { print "  " $0 }
        index($1, "ringlog_longest_step_seconds") == 1 { print "  " $0 }'
    stop_node
done
