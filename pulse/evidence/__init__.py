"""The seal: a signed Merkle tree over the log, in the C2SP formats, that others can check."""
