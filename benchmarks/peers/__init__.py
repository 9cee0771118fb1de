"""Alternatives to Pulse, each set up as in its documentation."""
