"""Device side of sen-edge: the network representation, its interpreter, the image and the engines.

Depends on numpy only. Nothing here imports torch, typer or onnx; engines import their library when
they are used.
"""

__version__ = "0.1.0"
