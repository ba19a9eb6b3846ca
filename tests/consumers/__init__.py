"""Exported files in the tools of others: see docs/reference/consumers.md."""
