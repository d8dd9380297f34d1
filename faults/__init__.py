"""Faults: one fault, one short file. Each may import harness values and seams only."""
