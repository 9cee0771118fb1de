"""Pulse owns the trading-order domain: it stores orders as events and splits them into slices."""

__version__ = "0.2.0"
