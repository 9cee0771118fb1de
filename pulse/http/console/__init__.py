"""The console: pages where people look at orders, queue and log in a browser."""
