"""Device side of sen-edge: the network representation, its interpreter, the `.sen` image and the engines.

Depends on numpy only: engines import their library when they are used.

    import sen_runtime

    with sen_runtime.load("model.sen") as session:
        y = session.run(x)                  # [batch, n_in] to [batch, n_out]
        session.reset()                     # a spiking network, one time step after the other
        y_t = session.step(x_t)             # [n_in] to [n_out]
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sen_runtime.engines.session import Session

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(path: str | os.PathLike[str], *, engine: str | None = None, threads: int = 1) -> Session:
    """Load an exported file: `.sen`, `.onnx`, `.tflite`, or the `.c` of exported C.

    Args:
        path: of the file.
        engine: name, such as "onnxruntime"; by default an installed engine that runs this kind of file.
        threads: of an engine that has several, 1 to 256.

    Returns:
        A session with `run`, `step`, `reset` and `close`; see `sen_runtime.engines.session.Session`.

    Raises:
        EngineError: no engine runs such a file, or the engine refuses it; the number of threads is invalid.
        ImageError: a damaged image.
        MissingExtraError: no engine for it is installed.
    """
    from pathlib import Path

    from sen_runtime import engines

    threads = engines.check_threads(threads)
    name = engine or engines.installed(engines.names_for(Path(path).suffix))[0]
    return engines.engine(name).load(path, threads)
