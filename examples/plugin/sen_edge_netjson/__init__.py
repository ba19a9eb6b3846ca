"""Multilayer perceptrons as JSON: an example of a target and an engine outside of sen-edge."""
