"""Backends: where members run. `process` is the default; see DESIGN section 5."""
