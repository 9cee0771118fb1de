"""An in-memory Postgres: Pulse's statements, transactions, and a psycopg-like connection."""
