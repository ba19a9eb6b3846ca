"""Exported files in third-party tools: see docs/reference/consumers.md."""
