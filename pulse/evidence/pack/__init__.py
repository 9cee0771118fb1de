"""The evidence pack: a file with events and their proofs, which is checked without a database."""
