"""Training: epoch loop, resume, dense baseline."""
