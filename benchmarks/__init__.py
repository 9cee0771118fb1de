"""Measurements that are repeated by hand; each says how to run it and what it prints."""
