#!/usr/bin/env bash
# The head of a Ray cluster on plain machines. Stays in the foreground; Ctrl-C or SIGTERM ends it (systemd, tmux, ...).
#
#   cluster/head.sh                       this machine alone: everything listens on loopback
#   cluster/head.sh --listen 10.0.0.5     for other machines: on this address of a private network
#
# What follows is given on to `ray start`, as in `cluster/head.sh --num-cpus 8 --temp-dir /scratch/ray`.
# The dashboard, where jobs are submitted, stays on loopback: `ssh -N -L 8265:127.0.0.1:8265 HEAD` reaches it from
# elsewhere. The token, secrets and Python: see environment.sh.
# On machines with other users give `--temp-dir` inside a folder of mode 0700: Ray lets everybody write to its files.
# RAYMC_PORT (6379) and RAYMC_DASHBOARD_PORT (8265) choose other ports; a second head on one machine needs them, and
# --dashboard-agent-listen-port and --ray-client-server-port.
set -euo pipefail
# shellcheck source=cluster/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

listen=127.0.0.1
if [ "${1:-}" = --listen ]; then
  listen="${2:?--listen takes an address of this machine}"
  shift 2
fi
if [ "$listen" = 127.0.0.1 ]; then
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 # Ray's way of staying on loopback: it looks for another address otherwise
fi
token make
exec ray start --head --block --disable-usage-stats \
  --node-ip-address="$listen" --port="${RAYMC_PORT:-6379}" \
  --dashboard-host=127.0.0.1 --dashboard-port="${RAYMC_DASHBOARD_PORT:-8265}" "$@"
