"""Bindings to the native checker (Porcupine and our own deciders)."""
