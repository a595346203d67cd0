# shellcheck shell=bash
# Read by head.sh, worker.sh and slurm.sh: the token, secrets from files, and which Python a job gets.
#
# RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH  the cluster's token; by default ~/.ray/auth_token, which head.sh makes
# RAYMC_SECRETS                          a folder with one file a secret, named like its variable (default /run/secrets)
# RAYMC_BIN                              the folder of `ray` and `python` (default: where `ray` is, else ../.venv/bin)

export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
export RAY_JOB_STOP_WAIT_TIME_S="${RAY_JOB_STOP_WAIT_TIME_S:-60}"

# Jobs run `python` from the PATH that Ray was started with: it must be the one that raymc is installed for.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ -z "${RAYMC_BIN:-}" ]; then
  if command -v ray >/dev/null; then RAYMC_BIN="$(dirname "$(command -v ray)")"; else RAYMC_BIN="$here/../.venv/bin"; fi
fi
export PATH="$RAYMC_BIN:$PATH"

# Secrets reach trials, actors and jobs as the nodes' own environment: never through a job, a spec or a command line.
for file in "${RAYMC_SECRETS:-/run/secrets}"/*; do
  name="$(basename "$file")"
  if [ -f "$file" ] && [[ "$name" =~ ^[A-Z_][A-Z0-9_]*$ ]]; then
    printf -v "$name" '%s' "$(cat "$file")"
    export "${name?}"
  fi
done

# A token that all nodes and clients have; made here once where the caller says so: `token make`.
token() {
  if [ -n "${RAY_AUTH_TOKEN:-}" ]; then return; fi
  export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
  if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    if [ "${1:-}" != make ]; then
      echo "no token in $RAY_AUTH_TOKEN_PATH: copy the head's file here (mode 0600), or set RAY_AUTH_TOKEN_PATH" >&2
      exit 2
    fi
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
    echo "token made: $RAY_AUTH_TOKEN_PATH (copy it to the other nodes and to those who submit; it allows code to run)" >&2
  fi
  chmod 600 "$RAY_AUTH_TOKEN_PATH" # as Ray leaves one that it makes itself readable by all
}
