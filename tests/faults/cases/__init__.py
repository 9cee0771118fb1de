"""One module for each fault of docs/explanation/reliability.md."""
