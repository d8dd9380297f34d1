"""Systems under test: adapters, and the reference cluster in `reference/`."""
