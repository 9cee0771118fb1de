"""Charts as SVG: pure functions of their data."""
