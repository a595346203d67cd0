#!/usr/bin/env bash
# A further node for a head that was started with --listen. Stays in the foreground; Ctrl-C or SIGTERM ends it.
#
#   cluster/worker.sh 10.0.0.5            the head's address (10.0.0.5:6380 where it has another port)
#
# What follows is given on to `ray start`, as in `cluster/worker.sh 10.0.0.5 --num-gpus 4`. The token must be the
# head's: see environment.sh. The node needs the same Python and raymc, and the same shared folders at the same paths.
# On machines with other users give `--temp-dir` inside a folder of mode 0700: Ray lets everybody write to its files.
set -euo pipefail
# shellcheck source=cluster/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

head="${1:?the address of the head}"
shift
case "$head" in *:*) ;; *) head="$head:6379" ;; esac
token
exec ray start --block --disable-usage-stats --address="$head" "$@"
