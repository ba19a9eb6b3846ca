"""ai-edge-litert."""

from adapters.protocol import serve
from adapters.tflite import loader
from ai_edge_litert.interpreter import Interpreter

serve(loader(Interpreter))
