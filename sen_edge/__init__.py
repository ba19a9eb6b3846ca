"""sen-edge: deployment toolkit for spatially embedded networks.

A trained checkpoint goes in; weights are computed from the coordinates, the network is exported, verified
against the checkpoint and put in place with a manifest.
"""

from sen_runtime import __version__

__all__ = ["__version__"]
