#!/usr/bin/env bash
# `raymc run` as a RayJob's entrypoint: where another cluster can't help, the job's end is final.
#
#   cluster/kubernetes/run.sh /sweep/sweep.yaml --storage /shared/raymc
#
# KubeRay makes the cluster anew (backoffLimit) after any exit code but 0. That is right for a cluster that died, and
# costs a cluster and time for nothing where `raymc validate` refuses the spec (2), or where a trial fails for good, as
# one whose loss isn't finite (3; the rest is done). These two end the job with 0, which Kubernetes shows as SUCCEEDED:
# the last lines of the log say what it was. Another 2, as of a node whose disk is full, is tried again. A file of its
# own, since KubeRay puts the entrypoint into a shell command without quotes.
set -uo pipefail
trap : TERM INT # Ray signals raymc, too: its clean end is waited for
code=0
python -m raymc.cli run "$@" || code=$?
case "$code" in
  2)
    if python -m raymc.cli validate "$1" >/dev/null 2>&1; then exit 2; fi
    why="the spec can't be used, as said above"
    ;;
  3) why="the sweep is done but for what failed, as said above" ;;
  *) exit "$code" ;;
esac
echo "raymc: exit code $code ($why); another cluster can't help, so that this job isn't tried again and shows as SUCCEEDED" >&2
