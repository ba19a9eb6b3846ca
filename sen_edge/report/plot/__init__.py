"""Pictures of a checkpoint: where its neurons sit, an interactive page of that, and figures for papers."""
