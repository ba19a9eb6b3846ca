"""Export pipeline: load, lower, build, verify, write."""
