"""Verification of artifacts against their model."""
