"""A whole cluster on one machine: each host is a network namespace."""
