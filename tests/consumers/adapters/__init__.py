"""One module per tool, run in the tool's own environment; `protocol` is all they share."""
