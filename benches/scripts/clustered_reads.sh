#!/usr/bin/env bash
# One partition of PARTITIONS (10000) is read from disk before and after the cleaner has laid each partition together:
# bytes read from disk per byte of values, and what the cleaner read and wrote for it. For each of BATCH_BYTES
# ("2048 16384"), in segments of SEGMENT (256MiB), with GIGABYTES (3) of log; READS (8) partitions are read.
. "$(dirname "$0")/node.sh"
gigabytes=${GIGABYTES:-3} partitions=${PARTITIONS:-10000} segment=${SEGMENT:-256MiB} reads=${READS:-8}
build
command -v kcat >/dev/null || { echo "kcat is not installed" >&2; exit 1; }
read_some() { # label
    local before after values=0 partition
    before=$(metric ringlog_cold_read_bytes)
    for partition in $(seq "$reads"); do
        kcat -C -b "$kafka" -t cold -p $((partition * 37)) -o beginning -e -q -D '' -X check.crcs=false \
            >"$dir/one" 2>/dev/null || true
        values=$((values + $(stat -c %s "$dir/one")))
    done
    after=$(metric ringlog_cold_read_bytes)
    python3 -c "print('$1:', '$reads partitions,', $values, 'bytes of values,', round(($after - $before) / $values, 2), 'bytes read for each')"
}
for batch in ${BATCH_BYTES:-2048 16384}; do
    start_node --segment-bytes "$segment" --clean-bytes-per-second 0
    # By bytes, not by time: batches of any length fill the log alike.
    until [ "$(du -sm "$dir/data" | cut -f 1)" -ge $((gigabytes * 1000)) ]; do
        "$bin/loadgen" produce --bootstrap "$kafka" --topic cold --partitions "$partitions" --connections 1 \
            --in-flight 20 --batch-bytes "$batch" --record-size 100 --warmup 0s --max --duration 3s >/dev/null
    done
    stop_node
    start_node --keep --segment-bytes "$segment" --clean-bytes-per-second 0
    read_some "batches of $batch, as they came"
    stop_node
    start_node --keep --segment-bytes "$segment" --clean-bytes-per-second 1000000000
    last=-1 still=0
    while [ "$still" -lt 10 ]; do
        sleep 2
        now=$(metric ringlog_clean_written_bytes)
        if [ "$now" = "$last" ]; then still=$((still + 1)); else still=0; fi
        last=$now
    done
    echo "cleaner: $(metric ringlog_clean_runs) runs, read $(metric ringlog_clean_read_bytes) bytes, wrote $(metric ringlog_clean_written_bytes)"
    stop_node
    start_node --keep --segment-bytes "$segment" --clean-bytes-per-second 0
    read_some "batches of $batch, laid together"
    stop_node
done
