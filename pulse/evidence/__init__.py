"""Evidence that the log, and what Pulse derived from it, was not altered: seal, verification."""
