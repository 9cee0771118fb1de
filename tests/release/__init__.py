"""Checks of what a release consists of: distributions, README, licences, bill of materials.

`make release-check` runs them all. They need a package index, or pip's cache.
"""
