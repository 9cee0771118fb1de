#!/bin/bash
# Postgres runs this once, when its volume is empty: roles with rights as docs/reference/database-roles.md
# lists them, and a login role each for `pulse migrate` and for Pulse's processes.
set -euo pipefail
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=admin_password="$ADMIN_PASSWORD" --set=app_password="$APP_PASSWORD" <<'SQL'
CREATE ROLE pulse_owner;
CREATE ROLE pulse_runtime;
CREATE ROLE pulse_reader;
CREATE ROLE pulse_admin LOGIN PASSWORD :'admin_password' IN ROLE pulse_owner;
CREATE ROLE pulse_app LOGIN PASSWORD :'app_password' IN ROLE pulse_runtime;
ALTER DATABASE pulse OWNER TO pulse_owner;
ALTER SCHEMA public OWNER TO pulse_owner;
SQL
