"""Spiking networks with delays in torch: configuration, connections, network."""
