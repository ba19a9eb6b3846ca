"""TFLite exporter."""
