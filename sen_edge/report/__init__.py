"""One page about everything in a folder: models, compression, verification, benchmarks."""
