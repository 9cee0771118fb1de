"""Postgres as Pulse meets it, in memory: its statements, its transactions, a psycopg connection."""
