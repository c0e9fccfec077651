#!/usr/bin/env bash
# Stops what start.sh started, and nothing else: only process ids that it wrote down, and only while they are Dask's.
#
#   cluster/local/stop.sh [FOLDER]
set -euo pipefail
folder="${1:-coretree-cluster}"
if [[ ! -e "$folder/pids" ]]; then
    echo "nothing to stop: no cluster was started in $folder"
    exit 0
fi

ours() {  # a process id may have been given to another program since
    if [[ -e "/proc/$$/cmdline" ]]; then
        { tr '\0' ' ' < "/proc/$1/cmdline" || true; } 2>/dev/null | grep -q 'distributed\.cli\.dask_'
    else
        ps -p "$1" -o args= 2>/dev/null | grep -q 'distributed\.cli\.dask_'
    fi
}

stop() {  # stop PATTERN: ask all processes of that name to end, wait, and kill what is left after 20 s
    local pid name
    while read -r pid name; do
        if [[ "$name" == $1 ]] && ours "$pid"; then kill -TERM "$pid" 2>/dev/null || true; fi
    done < "$folder/pids"
    for _ in $(seq 200); do
        local left=""
        while read -r pid name; do
            if [[ "$name" == $1 ]] && ours "$pid"; then left+=" $pid"; fi
        done < "$folder/pids"
        [[ -z "$left" ]] && return 0
        sleep 0.1
    done
    echo "not ended by themselves, killed:$left"
    # shellcheck disable=SC2086
    kill -KILL $left 2>/dev/null || true
}

# workers first, so that they close their own child processes while the scheduler still answers
stop 'worker-*'
stop scheduler
rm -f "$folder/pids" "$folder/address" "$folder/scheduler.json"
echo "stopped; logs are in $folder"
