"""Exporter of `.sen` images."""
