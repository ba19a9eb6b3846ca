"""Network in, files out: one module per target. No torch, no disk: an exporter returns bytes."""
