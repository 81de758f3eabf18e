"""Data sets. A new one: one module here, one line in SOURCES, one test."""
