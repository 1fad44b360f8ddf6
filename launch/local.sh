#!/usr/bin/env bash
# One run on several processes of this machine, on its CPU: to try things out.
#
#   launch/local.sh pretrain --config configs/quickstart.py --workdir runs/two
#
PROCESSES=${PROCESSES:-2}
BRAINJAX=${BRAINJAX:-brainjax}
PORT=${PORT:-$((20000 + RANDOM % 12000))}

set -u
export JAX_PLATFORMS=cpu
# One device per process: two can deadlock in gloo, which connects CPU processes.
export XLA_FLAGS=--xla_force_host_platform_device_count=1

pids=()
for ((index = 0; index < PROCESSES; index++)); do
  "$BRAINJAX" "$@" --coordinator "localhost:$PORT" --processes "$PROCESSES" \
    --process-index "$index" &
  pids+=($!)
done

# All save the same step, whichever of them is told; so one is told.
trap 'kill -TERM "${pids[0]}"' TERM INT

code=0
for pid in "${pids[@]}"; do
  while true; do
    wait "$pid"
    ended=$?
    kill -0 "$pid" 2>/dev/null || break # else `wait` was interrupted by a signal
  done
  if ((ended > code)); then code=$ended; fi
done
exit "$code"
