"""tflite-runtime 2.14."""

from adapters.protocol import serve
from adapters.tflite import loader
from tflite_runtime.interpreter import Interpreter

serve(loader(Interpreter))
