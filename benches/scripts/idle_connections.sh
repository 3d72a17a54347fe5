#!/usr/bin/env bash
# What idle connections cost a producer: 100 events/s, one at a time, beside FEW (10) and MANY (5000) connections that
# do nothing, in alternating runs. ROUNDS (5), SECONDS_EACH (4).
. "$(dirname "$0")/node.sh"
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-4}
build
ulimit -n "$(ulimit -H -n)"
start_node

# Opens so many connections, says so, and keeps them until its input ends.
hold='import socket, sys
host, port = sys.argv[1].split(":")
held = [socket.create_connection((host, int(port))) for _ in range(int(sys.argv[2]))]
print("open", flush=True)
sys.stdin.read()'

beside() {
    coproc holder { exec python3 -c "$hold" "$kafka" "$1"; }
    local opened of_holder=$holder_PID
    read -r opened <&"${holder[0]}"
    "$bin/loadgen" produce --bootstrap "$kafka" --topic small --partitions 1 --connections 1 --in-flight 1 --record-size 100 \
        --batch-records 1 --rate 100 --warmup 1s --duration "${seconds}s" --json "$dir/small.json" >/dev/null
    kill "$of_holder" && wait "$of_holder" 2>/dev/null || true
    echo "$(field "$dir/small.json" latency.p50_us) $(field "$dir/small.json" latency.p99_us)"
}

few=${FEW:-10} many=${MANY:-5000}
echo "round: beside $few p50 p99, beside $many p50 p99 (µs)"
for round in $(seq "$rounds"); do
    echo "$round: $(beside "$few"), $(beside "$many")"
done
