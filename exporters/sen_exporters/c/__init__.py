"""Portable C99 exporter."""
