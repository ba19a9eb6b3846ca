"""Passes over the intermediate representation: materialize, quantize, sparse layout."""
