"""Pictures of a network: an interactive page of its neurons in space, and charts."""
