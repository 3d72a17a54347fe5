# Shared by the scripts of this folder: one node with one core (CORES), on ports of its own, in a directory of its own.
# Sourced, not run.

set -euo pipefail
exec </dev/null
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$root/target/release
dir=$(mktemp -d "${RINGLOG_BENCH_DIR:-.}/ringlog-bench-XXXXXX")
kafka=127.0.0.1:${RINGLOG_BENCH_PORT:-21592}
http=127.0.0.1:$((${RINGLOG_BENCH_PORT:-21592} + 100))
pid=

stop_node() {
    if [ -n "$pid" ]; then
        kill "$pid" && wait "$pid" || true
        pid=
    fi
}

clean_up() {
    stop_node
    rm -rf "$dir"
}
trap clean_up EXIT

# A fresh node with the given arguments, or with --keep one on what is there.
start_node() {
    if [ "${1:-}" = --keep ]; then shift; else rm -rf "$dir/data" "$dir/ready"; fi
    rm -f "$dir/ready"
    "$bin/ringlog" serve --data-dir "$dir/data" --cores "${CORES:-1}" --kafka-addr "$kafka" --http-addr "$http" \
        --ready-file "$dir/ready" "$@" 2>"$dir/node.log" >&2 &
    pid=$!
    for _ in $(seq 600); do
        [ -s "$dir/ready" ] && return
        kill -0 "$pid" 2>/dev/null || { cat "$dir/node.log" >&2; return 1; }
        sleep 0.1
    done
    echo "the node does not become ready" >&2
    return 1
}

metric() { curl -fsS "http://$http/metrics" | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { printf "%.6f\n", sum }'; }

# A field of a JSON file, by its path.
field() { python3 -c 'import json,sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2].split("."): value = value[key]
print(value)' "$1" "$2"; }

build() { cargo build --release --quiet --manifest-path "$root/Cargo.toml" --workspace --bin ringlog --bin loadgen; }
