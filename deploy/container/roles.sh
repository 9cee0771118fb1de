#!/bin/bash
# Creates the roles of docs/reference/database-roles.md, a login role for `pulse migrate`, and one for
# Pulse's processes. The entrypoint of Postgres runs it once, when the volume is empty.
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
