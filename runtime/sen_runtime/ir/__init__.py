"""Intermediate representation: networks, layers, neurons, weight operators."""
