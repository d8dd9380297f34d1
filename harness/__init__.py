"""Aftershock's core: values, seams, the run, its backends and its checks.

The public names are re-exported here as they settle; see docs/ARCHITECTURE.md for the reading order.
"""
