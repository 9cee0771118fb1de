"""One module for each fault of docs/reliability.md."""
