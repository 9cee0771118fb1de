"""The order queue, built from the log: its tables, its claims, their statements."""
