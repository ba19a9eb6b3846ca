"""Measurement on the device."""
