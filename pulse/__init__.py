"""Pulse owns the trading-order domain: orders in, slices out, every step an event."""

__version__ = "0.1.0"
