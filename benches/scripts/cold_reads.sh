#!/usr/bin/env bash
# Readers of data that is not in memory, on a log of GIGABYTES (3) over PARTITIONS (10000) interleaved partitions:
# (a) consumers that together read all of it, beside the device's sequential reads and beside a producer at a
# constant rate; (b) one that reads one partition. Restart time and memory on the way.
. "$(dirname "$0")/node.sh"
gigabytes=${GIGABYTES:-3} partitions=${PARTITIONS:-10000} rate=${RATE:-200000}
build
start_node --segment-bytes 64MiB
"$bin/loadgen" produce --bootstrap "$kafka" --topic cold --partitions "$partitions" --connections 1 --in-flight 20 \
    --batch-bytes 16384 --record-size 100 --max --duration $((gigabytes * 3))s --json "$dir/fill.json" >/dev/null
echo "filled: $(field "$dir/fill.json" batch_mb_per_second) MB/s, cache $(metric ringlog_cached_bytes) bytes"
stop_node
start_node --keep --segment-bytes 64MiB
echo "restart: $(sed -n 's/.*ready after //p' "$dir/node.log"), resident $(awk '/VmRSS/ { print $2 }' "/proc/$pid/status") kB"

produce_beside() {
    "$bin/loadgen" produce --bootstrap "$kafka" --topic beside --partitions 8 --connections 1 --batch-bytes 16384 \
        --record-size 100 --rate "$rate" --warmup 1s --duration 6s --json "$1" >/dev/null
}
produce_beside "$dir/alone.json"
echo "producing $rate events/s alone: p50 $(field "$dir/alone.json" latency.p50_us), p99 $(field "$dir/alone.json" latency.p99_us) µs"
for connections in 1 4; do
    before=$(metric ringlog_cold_read_bytes)
    "$bin/loadgen" consume --bootstrap "$kafka" --topic cold --connections "$connections" --until-end --duration 120s \
        --json "$dir/all.json" >/dev/null
    read_bytes=$(python3 -c "print(int($(metric ringlog_cold_read_bytes) - $before))")
    echo "all partitions, $connections consumers: $(field "$dir/all.json" batch_mb_per_second) MB/s," \
        "bytes read per byte delivered $(python3 -c "print(round($read_bytes / ($(field "$dir/all.json" batch_mb_per_second) * 1e6 * $(field "$dir/all.json" seconds)), 2))")"
done
# The device alone: large direct reads of the same files, one and eight at a time.
largest=$(ls -S "$dir"/data/log-*/*.segment | head -n 24)
bytes=$(stat -c %s $largest | awk '{ sum += $1 } END { print sum }')
for depth in 1 8; do
    started=$(date +%s.%N)
    printf '%s\n' $largest | xargs -P "$depth" -I{} dd if={} of=/dev/null bs=1M iflag=direct status=none
    echo "device, dd of $(echo "$largest" | wc -l) segments, 1 MiB direct reads, $depth at a time:" \
        "$(python3 -c "import time; print(round($bytes / 1e6 / (time.time() - $started)))") MB/s"
done
# Readers that give way to the producer's generator, so that the node is measured and not the CPU they share with it.
(chrt --idle 0 "$bin/loadgen" consume --bootstrap "$kafka" --topic cold --connections 4 --until-end --duration 120s --json "$dir/beside-readers.json" >/dev/null) &
reader=$!
produce_beside "$dir/beside.json"
wait "$reader"
echo "producing beside readers at $(field "$dir/beside-readers.json" batch_mb_per_second) MB/s: p50 $(field "$dir/beside.json" latency.p50_us), p99 $(field "$dir/beside.json" latency.p99_us) µs"
before=$(metric ringlog_cold_read_bytes)
kcat -C -b "$kafka" -t cold -p 7 -o beginning -e -q -X check.crcs=false >"$dir/one" 2>/dev/null || true
delivered=$(wc -c <"$dir/one")
read_bytes=$(python3 -c "print(int($(metric ringlog_cold_read_bytes) - $before))")
[ "$delivered" -eq 0 ] || echo "one partition of $partitions (kcat): $read_bytes bytes read for $delivered bytes of values:" \
    "$(python3 -c "print(round($read_bytes / $delivered, 2))")"
echo "longest step: $(metric ringlog_longest_step_seconds) s"
