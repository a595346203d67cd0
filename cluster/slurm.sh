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
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # since Slurm 22.05 a step has one CPU unless it asks again

# A token for this allocation, in a folder that its nodes share; what the sweep writes has the user's own umask.
private="$(mktemp -d "$HOME/.raymc-$SLURM_JOB_ID-XXXX")"
export RAY_AUTH_TOKEN_PATH="$private/token"
token make

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=$(head -n 1 <<<"$nodes")
expected=$(wc -w <<<"$nodes")
step=(srun --overlap --nodes=1 --ntasks=1 --cpu-bind=none)
# Not `hostname --ip-address`: where /etc/hosts has the node's own name it says 127.0.0.1 or 127.0.1.1.
address="${RAYMC_HEAD:-$("${step[@]}" --nodelist="$first" python -c 'import ray; print(ray.util.get_node_ip_address())')}"
port=$((20000 + SLURM_JOB_ID % 1200 * 8)) # others' Ray may be on the same node
export RAYMC_PORT=$port RAYMC_DASHBOARD_PORT=$((port + 1))
export RAY_API_SERVER_ADDRESS="http://127.0.0.1:$RAYMC_DASHBOARD_PORT"

# Ray's files, on each node's own disk. Ray lets everybody write to them, and all users of a node share /tmp/ray:
# a folder inside one that is the user's alone. A short path, as those of Unix sockets have 107 characters at most.
scratch="${RAYMC_SCRATCH:-/tmp}/raymc-$SLURM_JOB_ID"
each() { srun --overlap --nodes="$expected" --ntasks-per-node=1 "$@"; }
# shellcheck disable=SC2016 # for the shell on the node
each bash -c 'mkdir -pm 700 "$1" && test -O "$1" && chmod 700 "$1"' _ "$scratch"
given=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
given+=(--dashboard-agent-listen-port=$((port + 2)) --temp-dir="$scratch/ray")

started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  each rm -rf "$scratch" || true
  rm -rf "$private"
}
trap finish EXIT

# The script itself runs on the first node, so that the dashboard can stay on its loopback.
"${step[@]}" --nodelist="$first" "$cluster/head.sh" --listen "$address" --ray-client-server-port=$((port + 3)) "${given[@]}" &
started+=($!)
for_ray() { # until a command succeeds; ends the job where Ray ends on a node, or after ten minutes
  until "$@" >/dev/null 2>&1; do
    for pid in "${started[@]}"; do
      kill -0 "$pid" 2>/dev/null || { echo "Ray ended on a node before the sweep began: see above" >&2; exit 1; }
    done
    if [ "$SECONDS" -gt 600 ]; then echo "Ray isn't up on all $expected nodes after 10 minutes" >&2; exit 1; fi
    sleep 2
  done
}
joined() {
  [ "$(ray list nodes --filter state=ALIVE --limit 10000 --format json --address "$RAY_API_SERVER_ADDRESS" |
    grep -o '"node_id"' | wc -l)" -ge "$expected" ]
}
for_ray raymc jobs
for node in $(tail -n +2 <<<"$nodes"); do
  "${step[@]}" --nodelist="$node" "$cluster/worker.sh" "$address:$port" "${given[@]}" &
  started+=($!)
done
for_ray joined

sent=$(raymc submit "$@" --json) # a fault in the spec is its own line and exit code
id=$(python -c 'import json, sys; print(json.load(sys.stdin)["id"])' <<<"$sent")
requeue() {
  trap '' TERM # Slurm sends it again to a job that goes back into the queue
  raymc stop "$id" || echo "$id didn't stop cleanly: it goes on from its last checkpoints" >&2
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap requeue TERM
raymc logs "$id" --follow &
following=$!
started+=("$following")
wait "$following" # a trap is run while bash waits, not while a program runs in the foreground
