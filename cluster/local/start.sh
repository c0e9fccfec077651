#!/usr/bin/env bash
# Starts a Dask scheduler and workers as processes of this machine, on loopback only, and says how to submit to them.
#
#   cluster/local/start.sh [FOLDER]        FOLDER keeps address, process ids and logs; default: ./coretree-cluster
#
# Settings by environment: WORKERS=2  MEMORY=1GiB  PORT=0 (any free one)  PYTHON=python3 (one that has coretree)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-coretree-cluster}"
workers="${WORKERS:-2}" memory="${MEMORY:-1GiB}" port="${PORT:-0}" python="${PYTHON:-python3}"

if [[ -e "$folder/pids" ]]; then
    echo "error: $folder/pids is there already: a cluster was started here. Stop it first: $here/stop.sh $folder" >&2
    exit 2
fi
if ! "$python" -c 'import coretree, distributed' 2>/dev/null; then
    echo "error: $python does not have coretree. Name one that has: PYTHON=.venv/bin/python $0" >&2
    exit 2
fi
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
rm -f "$folder/scheduler.json"
: > "$folder/pids"
export DASK_CONFIG="${DASK_CONFIG:-$here/dask.yaml}"

run() {  # run NAME COMMAND...: in the background, detached, with a log and its process id noted
    local name="$1"
    shift
    # stdin, stdout and stderr all leave the terminal, so that nothing keeps it open
    nohup "$@" < /dev/null > "$folder/$name.log" 2>&1 &
    echo "$! $name" >> "$folder/pids"
}

fail() {
    echo "error: $1 The last lines of the logs in $folder:" >&2
    tail -n 5 "$folder"/*.log >&2 || true
    "$here/stop.sh" "$folder" >&2 || true
    exit 1
}

# `python -m distributed.cli...` is what `dask scheduler` and `dask worker` run
run scheduler "$python" -m distributed.cli.dask_scheduler --host 127.0.0.1 --port "$port" --no-dashboard \
    --dashboard-address 127.0.0.1:0 \
    --scheduler-file "$folder/scheduler.json"
for _ in $(seq 300); do
    [[ -s "$folder/scheduler.json" ]] && break
    sleep 0.1
done
[[ -s "$folder/scheduler.json" ]] || fail "the scheduler did not start within 30 s."
address="$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$folder/scheduler.json")"

for i in $(seq "$workers"); do
    run "worker-$i" "$python" -m distributed.cli.dask_worker "$address" --name "worker-$i" --host 127.0.0.1 \
        --nthreads 1 --memory-limit "$memory" --no-dashboard \
        --dashboard-address 127.0.0.1:0 --death-timeout 120 --local-directory "$folder/scratch"
done
"$python" - "$address" "$workers" <<'PY' || fail "the workers did not report within 60 s."
import sys
from distributed import Client

if __name__ == "__main__":
    with Client(sys.argv[1], timeout=30) as client:
        client.wait_for_workers(int(sys.argv[2]), timeout=60)
PY
echo "$address" > "$folder/address"
echo "$workers workers at $address"
echo "submit:  $here/submit.sh $folder"
echo "stop:    $here/stop.sh $folder"
