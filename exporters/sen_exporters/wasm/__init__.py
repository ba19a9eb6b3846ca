"""Exporter for browsers: a WebAssembly module with loader, types and demo page."""
