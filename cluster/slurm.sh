#!/usr/bin/env bash
#SBATCH --job-name=raymc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=raymc-%j.log
#
# One sweep on a Slurm allocation: Ray over all its nodes, the sweep submitted to it, its log as the job's log.
#
#   sbatch cluster/slurm.sh sweeps/quickstart.yaml --storage /shared/raymc
#   sbatch --nodes=4 cluster/slurm.sh SPEC --storage /shared/raymc --set train.steps=500 --env HF_HUB_OFFLINE
#
# What follows the script is given to `raymc submit`. Three minutes before the time is up (--signal) the sweep stops
# cleanly and the job is put into the queue again; it goes on from its storage. The allocation ends with the sweep.
# Start it from the repository, or set RAYMC_CLUSTER to the folder of this file (Slurm runs a copy of the script).
set -euo pipefail
cluster="${RAYMC_CLUSTER:-$SLURM_SUBMIT_DIR/cluster}"
# shellcheck source=cluster/environment.sh
source "$cluster/environment.sh"

# A token for this allocation, in a folder that its nodes share.
umask 077
private="$(mktemp -d "$HOME/.raymc-$SLURM_JOB_ID-XXXX")"
export RAY_AUTH_TOKEN_PATH="$private/token"
token make

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=$(head -n 1 <<<"$nodes")
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 1200 * 8)) # others' Ray may be on the same node
export RAYMC_PORT=$port RAYMC_DASHBOARD_PORT=$((port + 1))
export RAY_API_SERVER_ADDRESS="http://127.0.0.1:$RAYMC_DASHBOARD_PORT"
given=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
given+=(--dashboard-agent-listen-port=$((port + 2)))

started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$private"
}
trap finish EXIT

# The script itself runs on the first node, so that the dashboard can stay on its loopback.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$first" \
  "$cluster/head.sh" --listen "$address" --ray-client-server-port=$((port + 3)) "${given[@]}" &
started+=($!)
until raymc jobs >/dev/null 2>&1; do
  kill -0 "${started[0]}" || exit 1
  sleep 2
done
for node in $(tail -n +2 <<<"$nodes"); do
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
    "$cluster/worker.sh" "$address:$port" "${given[@]}" &
  started+=($!)
done
expected=$(wc -w <<<"$nodes")
until [ "$(ray list nodes --filter state=ALIVE --format json --address "$RAY_API_SERVER_ADDRESS" | grep -o '"node_id"' | wc -l)" -ge "$expected" ]; do
  sleep 2
done

id=$(raymc submit "$@" --json | python -c 'import json, sys; print(json.load(sys.stdin)["id"])')
requeue() {
  raymc stop "$id"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap requeue TERM
raymc logs "$id" --follow &
following=$!
wait "$following" # a trap is run while bash waits, not while a program runs in the foreground
