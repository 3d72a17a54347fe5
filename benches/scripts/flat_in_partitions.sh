#!/usr/bin/env bash
# Durable produce over 1, 100 and 10,000 partitions, interleaved in one run, a fresh node each time: throughput,
# flushes per second and bytes per flush. ROUNDS (5), SECONDS_EACH (3), BATCH_BYTES (16384).
. "$(dirname "$0")/node.sh"
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3} batch=${BATCH_BYTES:-16384}
build
for round in $(seq "$rounds"); do
    for partitions in 1 100 10000; do
        start_node
        "$bin/loadgen" produce --bootstrap "$kafka" --topic flat --partitions "$partitions" \
            --connections 1 --in-flight 20 --batch-bytes "$batch" --record-size 100 --max \
            --warmup 1s --duration "${seconds}s" --json "$dir/$partitions-$round.json" >/dev/null
        metric ringlog_flushes_total >"$dir/$partitions-$round.flushes"
        metric ringlog_blocks_total >"$dir/$partitions-$round.blocks"
        metric ringlog_longest_step_seconds >"$dir/$partitions-$round.step"
        stop_node
    done
done
python3 - "$dir" "$rounds" <<'PY'
import json, statistics, sys
folder, rounds = sys.argv[1], int(sys.argv[2])
def load(partitions, number):
    run = json.load(open(f"{folder}/{partitions}-{number}.json"))
    extra = {name: float(open(f"{folder}/{partitions}-{number}.{name}").read()) for name in ("flushes", "step")}
    return run, extra
base = {}
print("| partitions | events/s, median (range) | of one partition, median of pairs (range) | events per flush | longest step, ms |")
print("|---|---|---|---|---|")
for partitions in (1, 100, 10000):
    runs = [load(partitions, number) for number in range(1, rounds + 1)]
    rates = [run["events_per_second"] for run, _ in runs]
    base.setdefault("rates", rates)
    ratios = [rate / one for rate, one in zip(rates, base["rates"])]
    each = [run.get("all_events", run["events"]) / extra["flushes"] for run, extra in runs]
    steps = [extra["step"] * 1e3 for _, extra in runs]
    med = statistics.median
    print(f"| {partitions} | {med(rates)/1e6:.2f} M ({min(rates)/1e6:.2f}–{max(rates)/1e6:.2f}) | {med(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {med(each):.0f} | {med(steps):.2f} |")
PY
