"""The order queue: its projection from the log, its claims, its lists, its audit and rebuild."""
