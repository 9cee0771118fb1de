"""The console: pages that show orders, queue and log in a browser."""
