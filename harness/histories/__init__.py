"""Histories that somebody brings: read in six formats, judged, explained, and converted (docs/your-own-history.md)."""

from .detect import FORMATS, detect_format, read_history
from .imported import ImportedHistory

__all__ = ["FORMATS", "ImportedHistory", "detect_format", "read_history"]
