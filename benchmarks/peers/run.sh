#!/bin/sh
# Make an environment of its own, install optbench and its peers, compare them, and write RESULTS.md.
# Arguments are handed on: benchmarks/peers/run.sh --quick
set -e
here=$(cd "$(dirname "$0")" && pwd)
env="$here/.venv"
[ -x "$env/bin/python" ] || python3 -m venv "$env"
"$env/bin/pip" install --quiet -r "$here/requirements.txt" "$here/../.."
exec "$env/bin/python" "$here/compare.py" "$@"
