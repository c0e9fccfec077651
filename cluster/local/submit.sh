#!/usr/bin/env bash
# Submits the demo to the cluster that start.sh started; further arguments go to `coretree demo`.
#
#   cluster/local/submit.sh [FOLDER] [--months 2 ...]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="coretree-cluster"
if [[ $# -gt 0 && "$1" != -* ]]; then
    folder="$1"
    shift
fi
if [[ ! -s "$folder/address" ]]; then
    echo "error: no cluster was started in $folder. Start one: $here/start.sh $folder" >&2
    exit 2
fi
exec "${PYTHON:-python3}" -m coretree demo --scheduler "$(cat "$folder/address")" --out "$folder/demo" "$@"
