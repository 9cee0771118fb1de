"""The fault suite: real processes on a real Postgres, broken on purpose, with figures."""
