#!/bin/sh
# Runs the tests that measure how long things take, one after the other. Beside them, at the lowest priority, those that
# only need a processor: most of the time the others wait.
# usage: timed.sh PYTHON TEST...
set -eu

python=$1
shift
log=$(mktemp)
nice -n 19 "$python" -m pytest "$@" >"$log" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

status=0
"$python" -m pytest -m timed || status=$?
wait "$beside" || status=$?
cat "$log"
exit "$status"
