"""Images built byte by byte, valid and malicious."""

import struct
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

from sen_edge.passes.quantize import to_int8
from sen_runtime import format as image
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense, Sum
from tests.support.networks import by_source, random_input, random_network, random_operator

PAGE = Path(__file__).parents[2] / "docs/reference/sen-image.md"
NONE = 0xFFFFFFFF
MAGIC = b"\x89SEN\r\n\x1a\n"

# The format once more, from the page, with nothing of sen_runtime: what the tests compare with and build hostile
# files from.


def seal(data):
    """`data` with the header's file size and checksum made right."""
    data = bytearray(data)
    struct.pack_into("<QI", data, 16, len(data), 0)
    struct.pack_into("<I", data, 24, zlib.crc32(data))
    return bytes(data)


def assemble(program, tensors=(), metadata=None, version=1):
    """A file of these sections; a tensor is an array."""
    codes = {"float32": 1, "float16": 2, "int8": 3, "int32": 4, "uint16": 5, "uint8": 6}
    sections = [(1, 0, (), program)]
    if metadata is not None:
        sections.append((2, 0, (), metadata))
    sections += [(3, codes[str(array.dtype)], array.shape, array.tobytes()) for array in tensors]
    table, payload = b"", b""
    start = 64 + 48 * len(sections)
    for kind, dtype, shape, content in sections:
        payload += bytes(-(start + len(payload)) % 64)
        sizes = (*shape, 0, 0, 0)[:3]
        table += struct.pack("<IIQQIIIIQ", kind, dtype, start + len(payload), len(content), len(shape), *sizes, 0)
        payload += content
    header = MAGIC + struct.pack("<HHIQII", version, 64, len(sections), 0, 0, 0) + bytes(32)
    return seal(header + table + payload)


def program(n_in, n_out, layers, operators, timesteps=0, coding=0, readout=0):
    head = struct.pack("<8I", len(layers), len(operators), timesteps, coding, readout, n_in, n_out, 0)
    return head + b"".join(layers) + b"".join(operators)


def layer(operator=0, bias=NONE, neuron=0, beta=0.0, threshold=0.0, reset=0, grid=(0.0, 0)):
    return struct.pack("<3I2fIfi", operator, bias, neuron, beta, threshold, reset, *grid)


def operator(kind, n_out, n_in, tensors=(), operands=(NONE, NONE), block=(0, 0), scalars=(), order=0):
    tensors, scalars = (*tensors, *[NONE] * 4)[:4], (*scalars, *[0.0] * 4)[:4]
    return struct.pack("<3I4I2I2I4fI", kind, n_out, n_in, *tensors, *operands, *block, *scalars, order)


def f32(*values):
    return np.array(values, np.float32)


def i32(*values):
    return np.array(values, np.int32)


def patched(data, offset, code, value):
    """`data` with one field overwritten and the checksum made right; the file size in the header stays."""
    data = bytearray(data)
    struct.pack_into("<" + code, data, offset, value)
    struct.pack_into("<I", data, 24, 0)
    struct.pack_into("<I", data, 24, zlib.crc32(data))
    return bytes(data)


def section_rows(data):
    """(offset, size) of every section."""
    (count,) = struct.unpack_from("<I", data, 12)
    return [struct.unpack_from("<QQ", data, 64 + 48 * index + 8) for index in range(count)]


def assert_same(a, b):
    """The same types, numbers and bits."""
    assert type(a) is type(b)
    if is_dataclass(a):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def assert_round_trip(network):
    data = image.dumps(network)
    loaded = image.loads(data)
    assert image.dumps(loaded) == data
    assert_same(loaded, network)
    return loaded


def tiny():
    """The network of the page's example: 2 inputs, 1 neuron."""
    return Network((Layer(Dense(f32([0.5, -2.0])), f32(1.5), Identity()),))


def sample():
    """A network with every operator, a bias, sums within sums, a shared array and metadata."""
    rng = np.random.default_rng(5)
    neuron = Lif(0.5, 0.75, "zero")
    shared = rng.normal(size=4).astype(np.float32)
    layers = (
        Layer(random_operator(rng, 4, 3, "coordinates"), shared, neuron),
        Layer(random_operator(rng, 4, 4, "nested_sum"), shared, neuron),
        Layer(
            Sum(random_operator(rng, 2, 4, "dense"), random_operator(rng, 2, 4, "blocks")), None, LeakyIntegrator(0.25)
        ),
    )
    return Network(layers, 3, "spikes", "last_membrane", {"made by": "test"})


def int8_sample():
    """A spiking network with int8 activations and every operator that they take."""
    rng = np.random.default_rng(6)
    network = random_network(rng, spiking=True, kinds=("nested_sum",), sizes=(5, 4, 3), input_coding="spikes")
    return to_int8(network, random_input(rng, network, 64))


SAMPLE = image.dumps(sample())
SOURCE_SAMPLE = image.dumps(by_source(sample()))
INT8_SAMPLE = image.dumps(int8_sample())
TINY = image.dumps(tiny())


W, B = f32([0.5, -2.0]), f32(1.5)
I8 = np.array([[1, -2]], np.int8)
ONE = f32([1.0])
DENSE = operator(1, 1, 2, (1,))
INT8_DENSE, SCALE = operator(1, 1, 2, (1, 2)), f32(1)
PADDING = 64 + 3 * 48  # of TINY: the first byte between the table and the program
PROGRAM = 256
LAYER = PROGRAM + 32
OPERATOR = LAYER + 32


def with_operator(record, tensors, n_out=1, n_in=2, **head):
    """An image of one layer without bias over this operator, whose tensors are the sections 1, 2, .."""
    return assemble(program(n_in, n_out, [layer()], [record]), tensors, **head)


def with_layer(record, **head):
    """TINY with another layer."""
    return assemble(program(2, 1, [record], [DENSE], **head), [W, B])


def with_sums(*records, top=0):
    """A layer over the operator `top`, among operators of 1x1 weights that are all section 1."""
    return assemble(program(1, 1, [layer(top)], records), [ONE])


def with_metadata(text, **fields):
    data = assemble(program(2, 1, [layer(bias=3)], [operator(1, 1, 2, (2,))]), [W, B], metadata=text)
    for offset, value in fields.values():
        data = patched(data, 64 + 48 + offset, "I", value)
    return data


LEAF = operator(1, 1, 1, (1,))


def sum_(a, b):
    return operator(4, 1, 1, operands=(a, b))


def chain(levels):
    """Sum upon sum, one level deeper each."""
    records, top = [LEAF], 0
    for _ in range(levels - 1):
        records += [LEAF, sum_(top, len(records))]
        top = len(records) - 1
    return with_sums(*records, top=top)


def sparse(values=((1,), (2,)), columns=(0, 1), starts=(0, 2), shape=(1, 2), block=(1, 1), dtype=np.int32, version=1):
    record = operator(2, *shape, (1, 2, 3), block=block)
    return with_operator(record, [f32(*values), np.array(columns, dtype), i32(*starts)], *shape, version=version)


def sources(
    rows=(0, 1), starts=(0, 0, 2), shape=(2, 2), block=(1, 1), dtype=np.uint16, order=1, version=3, values=None
):
    """Two blocks by source, those of the second input."""
    record = operator(2, *shape, (1, 2, 3), block=block, order=order)
    values = f32(*([[1]] * len(rows) if values is None else values))
    return with_operator(record, [values, np.array(rows, dtype), i32(*starts)], *shape, version=version)


def int8(scale):
    return with_operator(operator(1, 1, 2, (1, 2)), [I8, scale])


def u8(*values):
    return np.array(values, np.uint8)


def int4(weights=(0x79, 0x83), steps=((1,),), scale=(0.5,), shape=(1, 3), version=5):
    """Int4 weights 1, -1 and -5, of float activations."""
    tail = bytes(8) + struct.pack("<4I", *[NONE] * 4) + struct.pack("<2I", NONE, NONE)
    records = program(shape[1], shape[0], [layer()], [operator(5, *shape, (1, 2, 3))])
    tensors = [u8(*weights) if np.ndim(weights) > 1 else u8(weights), u8(*steps), f32(*scale)]
    return assemble(records + tail * (version >= 4), tensors, version=version)


def with_coordinates(*scalars, target=((0, 1, 0),), mask=(1, 1)):
    record = operator(0, 1, 2, (1, 2, 3), scalars=scalars)
    return with_operator(record, [f32([0, 0, 0], [1, 0, 0]), f32(*target), f32(*mask)])


def integers(record, operator, tensors, n_in=2, grid=(0.5, -128), **head):
    """An image of one layer with int8 activations."""
    return assemble(program(n_in, 1, [record], [operator], **head) + struct.pack("<fi", *grid), tensors, version=2)


def int8_dense(grid=(0.5, -128), layer_grid=(0.25, 3), **fields):
    """Int8 activations, with the weights 1 and -2."""
    return integers(layer(grid=layer_grid, **fields), INT8_DENSE, [I8, SCALE], grid=grid)


def int8_low_rank(*scalars):
    record = operator(3, 1, 2, (2, 1, 3, 3), scalars=scalars)
    return integers(layer(grid=(0.25, 3)), record, [I8, I8[:, :1].copy(), SCALE])


def int8_spiking(threshold=0.5, **head):
    record = layer(0, NONE, 2, 0.5, threshold, grid=(0.25, 3))
    return integers(record, INT8_DENSE, [I8, SCALE], **{"timesteps": 3, "readout": 2, **head})


def spiking(record, **head):
    return with_layer(record, **{"timesteps": 3, **head})


U8 = np.array([[3, 4]], np.uint8)
#: A recurrent operator of one neuron.
SQUARE = operator(1, 1, 1, (2,))


def delay(kind=0, value=0, first=NONE, second=NONE, scale=0.0, softening=0.0, limit=0, overflow=0, shift=0):
    return struct.pack("<IIIIffIII", kind, value, first, second, scale, softening, limit, overflow, shift)


def spatial(*values):
    return wired(delay=delay(3, 0, 2, 3, *values), tensors=(f32([0], [1]), f32([2])))


NO_DELAY = delay()


def wired(
    synapse=0.0,
    recurrent=NONE,
    delay=NO_DELAY,
    later=NO_DELAY,
    operators=(),
    tensors=(),
    neuron=2,
    timesteps=2,
    decay=1.0,
    extra=b"",
):
    """An image of one layer of a neuron with two inputs, and its wiring."""
    beta, threshold = (0.5, 1.0) if neuron == 2 else (0.0, 0.0)
    head = program(2, 1, [layer(0, NONE, neuron, beta, threshold)], [DENSE, *operators], timesteps, readout=2)
    tail = struct.pack("<fi", 0, 0) + struct.pack("<6I", *[NONE] * 6)
    wiring = struct.pack("<fI", synapse, recurrent) + delay + later + struct.pack("<f", decay)
    return assemble(head + tail + wiring + extra, [W, *tensors], version=6)
