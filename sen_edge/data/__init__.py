"""Data sets and calibration data."""
