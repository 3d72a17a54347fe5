#!/usr/bin/env bash
# Write amplification: sectors that the device wrote, by its own counter, over the bytes of the batches that were
# acknowledged. On a filesystem of its own on a loop device (needs root), so that nobody else's writes are counted;
# the filesystem's journal and metadata are. First while the log grows (segments are new and pre-written), then while
# it goes round in recycled segments. SECONDS_EACH (10), BATCH_BYTES ("1048576 16384"), IMAGE_GIGABYTES (24).
. "$(dirname "$0")/node.sh"
seconds=${SECONDS_EACH:-10} batches=${BATCH_BYTES:-1048576 16384} image=${IMAGE_GIGABYTES:-24}
build
mounted=
unmount() {
    stop_node
    # Lazily: the kernel lets go of a ring's files a moment after its process is gone.
    [ -z "$mounted" ] || umount -l "$mounted"
    rm -rf "$dir"
}
trap unmount EXIT
truncate -s "${image}G" "$dir/image"
mkfs.ext4 -q -F "$dir/image"
mkdir "$dir/mount"
mount -o loop "$dir/image" "$dir/mount"
mounted=$dir/mount
loop=$(basename "$(findmnt -no SOURCE "$mounted")")
outer=$dir
sectors() { sync -f "$mounted" && awk '{ print $7 }' "/sys/block/$loop/stat"; }
# What the run of `produce` with these arguments makes the device write.
measure() { # label, file, arguments
    local label=$1 file=$2 before after
    shift 2
    before=$(sectors)
    "$bin/loadgen" produce --bootstrap "$kafka" --partitions 8 --connections 2 --record-size 100 --warmup 0s \
        --json "$file" "$@" >/dev/null
    after=$(sectors)
    python3 - "$label" "$file" "$before" "$after" <<'PY'
import json, sys
label, file, before, after = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
run = json.load(open(file))
sent, written = run["batch_mb_per_second"] * run["seconds"] / 1e3, (after - before) * 512 / 1e9
print(f"| {label} | {sent:.2f} GB | {written:.2f} GB | {written / sent:.3f} |", flush=True)
PY
}
echo "| batches, phase | sent | written by the device | ratio |"
echo "|---|---|---|---|"
for batch in $batches; do
    dir=$mounted start_node --retention-check-ms 200
    measure "$batch bytes, growing" "$outer/grow.json" --topic grow --batch-bytes "$batch" --max \
        --duration "${seconds}s"
    measure "$batch bytes, going over to retention" "$outer/over.json" --topic round --batch-bytes "$batch" --max \
        --duration "${seconds}s" --topic-config retention.bytes=33554432
    measure "$batch bytes, recycling" "$outer/round.json" --topic round --batch-bytes "$batch" --max \
        --duration "${seconds}s"
    echo "  segments: $(metric ringlog_segments_live) live, $(metric ringlog_segments_free) free"
    stop_node
done
