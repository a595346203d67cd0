#!/usr/bin/env bash
# Starts the MLflow server in the container of compose.yaml, which says how it is used.
# Secrets are read from files in /run/secrets (or RAYMC_SECRETS), and never stand on a command line.
set -euo pipefail
umask 077

secret() { cat "${RAYMC_SECRETS:-/run/secrets}/$1"; }
encoded() { python -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.stdin.read().strip(), safe=""))'; }

database="postgresql+psycopg2://mlflow:$(secret postgres_password | encoded)@${POSTGRES_HOST:-postgres}:5432"
export MLFLOW_BACKEND_STORE_URI="$database/mlflow"
MLFLOW_FLASK_SERVER_SECRET_KEY="$(secret mlflow_session_key)"
export MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_AUTH_CONFIG_PATH="$HOME/auth.ini"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # twice the memory, for what raymc doesn't use
export MLFLOW_DISABLE_TELEMETRY=true
password="$(secret mlflow_admin_password)"
# In such a file a % is written twice.
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = ${database//%/%%}/mlflow
admin_username = admin
admin_password = ${password//%/%%}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
[ -n "${MLFLOW_S3_ENDPOINT_URL:-}" ] || unset MLFLOW_S3_ENDPOINT_URL # empty isn't unset to boto3
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}" \
  --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-localhost:*,127.0.0.1:*,mlflow:5000}" \
  --artifacts-destination "${MLFLOW_ARTIFACTS:-/artifacts}"
