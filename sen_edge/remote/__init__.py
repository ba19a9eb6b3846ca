"""Measurement on other machines: the system's OpenSSH, and a short Python program that it runs there."""
