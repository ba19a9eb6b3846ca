"""Images built byte by byte, good ones and ones made to do harm."""

import struct
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

from sen_runtime import format as image
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense, Sum
from tests.support.networks import random_operator

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


def assemble(program, tensors=(), metadata=None):
    """A file of these sections; a tensor is an array."""
    codes = {"float32": 1, "float16": 2, "int8": 3, "int32": 4, "uint16": 5}
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
    header = MAGIC + struct.pack("<HHIQII", 1, 64, len(sections), 0, 0, 0) + bytes(32)
    return seal(header + table + payload)


def program(n_in, n_out, layers, operators, timesteps=0, coding=0, readout=0):
    head = struct.pack("<8I", len(layers), len(operators), timesteps, coding, readout, n_in, n_out, 0)
    return head + b"".join(layers) + b"".join(operators)


def layer(operator=0, bias=NONE, neuron=0, beta=0.0, threshold=0.0, reset=0):
    return struct.pack("<3I2f3I", operator, bias, neuron, beta, threshold, reset, 0, 0)


def operator(kind, n_out, n_in, tensors=(), operands=(NONE, NONE), block=(0, 0), scalars=()):
    tensors, scalars = (*tensors, *[NONE] * 4)[:4], (*scalars, *[0.0] * 4)[:4]
    return struct.pack("<3I4I2I2I4fI", kind, n_out, n_in, *tensors, *operands, *block, *scalars, 0)


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


SAMPLE = image.dumps(sample())
TINY = image.dumps(tiny())


W, B = f32([0.5, -2.0]), f32(1.5)
I8 = np.array([[1, -2]], np.int8)
ONE = f32([1.0])
DENSE = operator(1, 1, 2, (1,))
PADDING = 64 + 3 * 48  # of TINY: the first byte between the table and the program
PROGRAM = 256
LAYER = PROGRAM + 32
OPERATOR = LAYER + 32


def with_operator(record, tensors, n_out=1, n_in=2):
    """An image of one layer without bias over this operator, whose tensors are the sections 1, 2, .."""
    return assemble(program(n_in, n_out, [layer()], [record]), tensors)


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


def sparse(values=((1,), (2,)), columns=(0, 1), starts=(0, 2), shape=(1, 2), block=(1, 1), dtype=np.int32):
    record = operator(2, *shape, (1, 2, 3), block=block)
    return with_operator(record, [f32(*values), np.array(columns, dtype), i32(*starts)], *shape)


def int8(scale):
    return with_operator(operator(1, 1, 2, (1, 2)), [I8, scale])


def with_coordinates(*scalars, target=((0, 1, 0),), mask=(1, 1)):
    record = operator(0, 1, 2, (1, 2, 3), scalars=scalars)
    return with_operator(record, [f32([0, 0, 0], [1, 0, 0]), f32(*target), f32(*mask)])


def spiking(record, **head):
    return with_layer(record, **{"timesteps": 3, **head})


HOSTILE = {
    # header
    "empty": (b"", "the file has 0 bytes"),
    "magic": (seal(b"\x88" + TINY[1:]), "not a .sen image"),
    "line endings translated": (seal(TINY.replace(b"\r\n", b"\n")), "not a .sen image"),
    "version 0": (patched(TINY, 8, "H", 0), "version is 0; this runtime reads version 1"),
    "version 2": (patched(TINY, 8, "H", 2), "version is 2; this runtime reads version 1"),
    "header size": (patched(TINY, 10, "H", 128), "the header has a wrong size"),
    "flags": (patched(TINY, 28, "I", 1), "unknown flags"),
    "reserved, first": (patched(TINY, 32, "B", 1), "reserved bytes"),
    "reserved, last": (patched(TINY, 63, "B", 1), "reserved bytes"),
    "checksum": (TINY[:24] + bytes(4) + TINY[28:], "the checksum is"),
    "payload changed": (TINY[:-1] + b"\x00", "the checksum is"),
    "file size less": (patched(TINY, 16, "Q", len(TINY) - 1), "its header says 451"),
    "file size more": (patched(TINY, 16, "Q", len(TINY) + 1), "its header says 453"),
    "one byte more": (seal(TINY + b"\0"), "1 bytes follow the last section"),
    "a block more": (seal(TINY + bytes(64)), "64 bytes follow the last section"),
    # section table
    "no sections": (patched(TINY, 12, "I", 0), "0 sections does not fit"),
    "more sections than bytes": (patched(TINY, 12, "I", 9), "9 sections does not fit"),
    "one section more": (patched(TINY, 12, "I", 4), "section 3 is at 0; expected 512"),
    "one section less": (patched(TINY, 12, "I", 2), "section 0 is at 256; expected 192"),
    "rank 4": (patched(TINY, 64 + 48 + 24, "I", 4), "section 1: rank 4"),
    "size beyond the rank": (patched(TINY, 64 + 48 + 28 + 8, "I", 1), "section 1: rank 2"),
    "section reserved": (patched(TINY, 64 + 48 + 40, "Q", 1), "section 1: .*reserved"),
    "offset unaligned": (patched(TINY, 64 + 8, "Q", 257), "section 0 is at 257; expected 256"),
    "offset 0": (patched(TINY, 64 + 48 + 8, "Q", 0), "section 1 is at 0; expected 384"),
    "overlap": (patched(TINY, 64 + 96 + 8, "Q", 384), "section 2 is at 384; expected 448"),
    "gap": (patched(TINY, 64 + 8, "Q", 320), "section 0 is at 320; expected 256"),
    "outside": (patched(TINY, 64 + 96 + 8, "Q", 2**40), "section 2 is at 1099511627776"),
    "size beyond the end": (patched(TINY, 64 + 96 + 16, "Q", 5), "section 2 holds 5 bytes from 448"),
    "padding, first": (patched(TINY, PADDING, "B", 1), "the padding before section 0"),
    "padding, last": (patched(TINY, 447, "B", 1), "the padding before section 2"),
    "no program": (patched(TINY, 64, "I", 3), "section 0 is of kind 3"),
    "two programs": (patched(TINY, 64 + 48, "I", 1), "section 1 is of kind 1"),
    "metadata late": (patched(TINY, 64 + 96, "I", 2), "section 2 is of kind 2"),
    "kind 0": (patched(TINY, 64 + 48, "I", 0), "section 1 is of kind 0"),
    "kind 4": (patched(TINY, 64 + 96, "I", 4), "section 2 is of kind 4"),
    "program dtype": (patched(TINY, 64 + 4, "I", 1), "program section has a dtype"),
    "program shape": (patched(patched(TINY, 64 + 24, "I", 1), 64 + 28, "I", 128), "program section has a .*shape"),
    "dtype 0": (patched(TINY, 64 + 48 + 4, "I", 0), "unknown dtype 0"),
    "dtype 6": (patched(TINY, 64 + 48 + 4, "I", 6), "unknown dtype 6"),
    "tensor without axes": (
        with_operator(operator(1, 1, 1, (1,)), [np.array(1, "f4")], 1, 1),
        "its shape \\[\\] needs",
    ),
    "shape too large": (patched(TINY, 64 + 48 + 28, "I", 2), "its shape \\[2, 2\\] needs 16"),
    "shape too small": (patched(TINY, 64 + 48 + 32, "I", 1), "its shape \\[1, 1\\] needs 4"),
    # program
    "program too short": (assemble(bytes(31)), "the program has 31 bytes; expected at least 32"),
    "program empty": (assemble(b""), "the program has 0 bytes"),
    "program longer": (assemble(TINY[256:384] + bytes(4), [W, B]), "the program has 132 bytes"),
    "program reserved": (patched(TINY, PROGRAM + 28, "I", 1), "the program has"),
    "no layers": (assemble(program(2, 1, [], [])), "at least one layer"),
    "coding": (patched(TINY, PROGRAM + 12, "I", 2), "input coding is 2; expected 0 to 1"),
    "readout": (patched(TINY, PROGRAM + 16, "I", 3), "readout is 3; expected 0 to 2"),
    "too many steps": (spiking(layer(0, 2, 3, 0.5), timesteps=2**20 + 1), "timesteps is 1048577; expected"),
    "spikes without steps": (patched(TINY, PROGRAM + 12, "I", 1), "needs timesteps > 0"),
    "steps without spikes": (patched(TINY, PROGRAM + 8, "I", 1), "layer 0 has Identity neurons"),
    "inputs": (patched(TINY, PROGRAM + 20, "I", 3), "says 3 inputs, 1 outputs; its layers 2, 1"),
    "outputs": (patched(TINY, PROGRAM + 24, "I", 2), "says 2 inputs, 2 outputs; its layers 2, 1"),
    "layers that do not fit": (
        assemble(program(2, 1, [layer(), layer(1)], [DENSE, DENSE]), [W]),
        "layer 0 has 1 outputs, layer 1 takes 2",
    ),
    # layers
    "layer operator": (with_layer(layer(1, 2)), "layer 0: operator 1 does not exist"),
    "layer operator none": (with_layer(layer(NONE, 2)), "layer 0: operator 4294967295 does not exist"),
    "operator of two layers": (
        assemble(program(1, 1, [layer(), layer()], [LEAF]), [ONE]),
        "layer 1: operator 0 does not exist, is used elsewhere",
    ),
    "bias is the program": (with_layer(layer(0, 0)), "layer 0: section 0 is asked for as a tensor"),
    "bias beyond the sections": (with_layer(layer(0, 3)), "layer 0: section 3 is asked for"),
    "bias is a matrix": (with_layer(layer(0, 1)), "layer 0: bias: shape is"),
    "bias too long": (
        assemble(program(2, 1, [layer(0, 2)], [DENSE]), [W, f32(1, 2)]),
        "layer 0: bias has 2 values; expected 1",
    ),
    "neuron kind": (with_layer(layer(0, 2, neuron=4)), "neuron kind is 4; expected 0 to 3"),
    "Identity with beta": (with_layer(layer(0, 2, beta=0.5)), "fields that Identity neurons do not use"),
    "Relu with NaN": (with_layer(layer(0, 2, neuron=1, beta=np.nan)), "fields that Relu neurons do not use"),
    "Relu with threshold": (with_layer(layer(0, 2, neuron=1, threshold=1)), "fields that Relu neurons do not use"),
    "Relu with reset": (with_layer(layer(0, 2, neuron=1, reset=1)), "fields that Relu neurons do not use"),
    "LeakyIntegrator with threshold": (spiking(layer(0, 2, 3, 0.5, 1)), "fields that LeakyIntegrator neurons"),
    "layer reserved": (patched(TINY, LAYER + 24, "I", 1), "fields that Identity neurons do not use"),
    "layer reserved, last": (patched(TINY, LAYER + 28, "I", 1), "fields that Identity neurons do not use"),
    "reset": (spiking(layer(0, 2, 2, 0.5, 1, 4), readout=2), "reset is 4; expected 0 to 3"),
    "beta above 1": (spiking(layer(0, 2, 3, 1.5)), "layer 0: beta is 1.5"),
    "beta negative": (spiking(layer(0, 2, 3, -0.5)), "layer 0: beta is -0.5"),
    "beta NaN": (spiking(layer(0, 2, 3, np.nan)), "layer 0: beta is nan"),
    "threshold 0": (spiking(layer(0, 2, 2, 0.5, 0), readout=2), "layer 0: threshold is 0"),
    "threshold infinite": (spiking(layer(0, 2, 2, 0.5, np.inf), readout=2), "layer 0: threshold is inf"),
    "spikes of a perceptron": (
        with_layer(layer(0, 2, 2, 0.5, 1)),
        "layer 0 has Lif neurons",
    ),
    "membrane without integrator": (spiking(layer(0, 2, 2, 0.5, 1)), "such as LeakyIntegrator"),
    # operators
    "operator kind": (with_operator(operator(5, 1, 2, (1,)), [W]), "operator 0: operator kind is 5; expected 0 to 4"),
    "operator shape": (
        with_operator(operator(1, 2, 1, (1,)), [W]),
        r"operator 0 says \[2, 1\]; its tensors give \[1, 2\]",
    ),
    "operator reserved": (patched(TINY, OPERATOR + 56, "I", 1), "fields that a Dense does not use"),
    "operator reserved, last": (patched(TINY, OPERATOR + 60, "I", 1), "fields that a Dense does not use"),
    "tensor is the program": (with_operator(operator(1, 1, 2, (0,)), [W]), "operator 0: section 0 is asked for"),
    "tensor beyond the sections": (with_operator(operator(1, 1, 2, (2,)), [W]), "operator 0: section 2 is asked for"),
    "tensor none": (with_operator(operator(1, 1, 2), [W]), "section 4294967295 is asked for"),
    "tensor is the metadata": (
        assemble(program(2, 1, [layer()], [DENSE]), [W], metadata=b'{"a":"b"}'),
        "section 1 is asked for as a tensor",
    ),
    "tensor unused": (with_operator(DENSE, [W, B]), r"sections \[2\] belong to no layer"),
    "operator unused": (with_sums(LEAF, LEAF), r"operators \[1\] and sections \[nothing\] belong to no layer"),
    "Dense with a scale it does not need": (
        with_operator(operator(1, 1, 2, (1, 2)), [W, B]),
        "expected an int8 matrix",
    ),
    "Dense with a third tensor": (with_operator(operator(1, 1, 2, (1, 2, 2)), [W, B]), "a Dense does not use"),
    "Dense with operands": (with_operator(operator(1, 1, 2, (1,), operands=(0, NONE)), [W]), "a Dense does not use"),
    "Dense with blocks": (with_operator(operator(1, 1, 2, (1,), block=(1, 1)), [W]), "a Dense does not use"),
    "Dense with scalars": (with_operator(operator(1, 1, 2, (1,), scalars=(0, 0, np.nan)), [W]), "a Dense does not use"),
    "Dense with max_distance": (
        with_operator(operator(1, 1, 2, (1,), scalars=(0, 0, 0, 1)), [W]),
        "a Dense does not use",
    ),
    "Dense of int32": (with_operator(DENSE, [W.astype(np.int32)]), "weights: got int32"),
    "Dense of rank 3": (with_operator(DENSE, [f32([[1, 2]])]), "weights: shape is"),
    "Dense without rows": (with_operator(operator(1, 0, 2, (1,)), [np.zeros((0, 2), "f4")], 0), "weights: shape is"),
    "LowRank sizes": (with_operator(operator(3, 1, 2, (1, 2)), [W, W]), "the inner sizes differ"),
    "Sum with a tensor": (
        with_sums(LEAF, LEAF, operator(4, 1, 1, (1,), operands=(0, 1)), top=2),
        "a Sum does not use",
    ),
    "Sum of itself": (with_sums(LEAF, sum_(0, 1), top=1), r"operator 1: operands \[0, 1\] must be"),
    "Sum of a later one": (with_sums(LEAF, sum_(0, 2), LEAF, top=1), r"operands \[0, 2\] must be"),
    "Sum cycle": (with_sums(sum_(1, 2), sum_(0, 2), LEAF), r"operator 0: operands \[1, 2\] must be"),
    "Sum of the same": (with_sums(LEAF, sum_(0, 0), top=1), r"operands \[0, 0\] must be"),
    "Sum of one used before": (
        with_sums(LEAF, LEAF, sum_(0, 1), sum_(2, 1), top=3),
        r"operator 3: operands \[2, 1\] must be",
    ),
    "Sum of nothing": (with_sums(LEAF, sum_(0, NONE), top=1), r"operands \[0, 4294967295\] must be"),
    "operand of a sum in a layer": (with_sums(LEAF, LEAF, sum_(0, 1)), "layer 0: operator 0 .*used elsewhere"),
    "Sum of two shapes": (
        assemble(program(1, 1, [layer(2)], [LEAF, operator(1, 1, 2, (2,)), sum_(0, 1)]), [ONE, W]),
        "operator 2: cannot add weights",
    ),
    "Sum too deep": (chain(33), "operator 64 is nested more than 32 deep"),
    "Coordinates mask": (with_coordinates(1, 1, 0, mask=(1, 2)), r"mask has values outside \[-1, 1\]"),
    "Coordinates dimensions": (with_coordinates(1, 1, 0, target=((0, 1),)), "both need the same number"),
    "Coordinates gain": (with_coordinates(np.inf, 1, 0), "gain is inf"),
    "Coordinates exponent": (with_coordinates(1, 0, 0), "exponent is 0"),
    "Coordinates min_distance": (with_coordinates(1, 1, -1), "min_distance is -1"),
    "Coordinates max_distance negative": (with_coordinates(1, 1, 0, -1), "max_distance is -1; expected a value > "),
    "Coordinates max_distance -0": (with_coordinates(1, 1, 0, -0.0), "max_distance is -0; expected a finite number"),
    "Coordinates max_distance NaN": (with_coordinates(1, 1, 0, np.nan), "max_distance is nan"),
    "Coordinates max_distance infinite": (with_coordinates(1, 1, 0, np.inf), "max_distance is inf; expected a finite"),
    "Coordinates max_distance at the floor": (with_coordinates(1, 1, 2, 2), "> min_distance, which is 2"),
    "Coordinates reserved": (patched(with_coordinates(1, 1, 0, 2), 64 + 48 * 4 + 32 + 32 + 60, "I", 1), "does not use"),
    "Coordinates with blocks": (
        with_operator(operator(0, 1, 2, (1, 2, 3), block=(1, 1), scalars=(1, 1, 0)), [W, W, W]),
        "a Coordinates does not use",
    ),
    "Sparse block 0": (sparse(block=(0, 1)), "expected sizes >= 1"),
    "Sparse block": (sparse(block=(2, 1)), "sparse values have 1 columns; expected 2 x 1"),
    "Sparse columns too far": (sparse(columns=(0, 2)), r"sparse columns must lie in 0\.\.1"),
    "Sparse uint16 columns too far": (
        sparse(columns=(0, 65535), dtype=np.uint16),
        r"sparse columns must lie in 0\.\.1",
    ),
    "Sparse uint16 columns twice": (sparse(columns=(1, 1), dtype=np.uint16), "must rise strictly"),
    "Sparse columns of another type": (sparse(columns=(0, 1), dtype=np.float16), "sparse columns: got float16"),
    "Sparse columns negative": (sparse(columns=(-1, 1)), r"sparse columns must lie in 0\.\.1"),
    "Sparse columns twice": (sparse(columns=(1, 1)), "must rise strictly"),
    "Sparse columns few": (sparse(columns=(0,)), r"sparse columns: got int32 \[1\]; expected int32 \[2\]"),
    "Sparse rows few": (sparse(starts=(0,)), r"row_starts: got int32 \[1\]; expected int32 \[2\]"),
    "Sparse rows, first": (sparse(starts=(1, 2)), "must rise from 0 to 2"),
    "Sparse rows, last": (sparse(starts=(0, 2**31 - 1)), "must rise from 0 to 2"),
    "Sparse rows fall": (sparse(starts=(0, 3, 2), shape=(2, 2)), "must rise from 0 to 2"),
    "Sparse rows negative": (sparse(starts=(0, -(2**31), 2), shape=(2, 2)), "must rise from 0 to 2"),
    "Sparse shape": (sparse(shape=(NONE, NONE)), r"row_starts: got int32 \[2\]; expected int32 \[4294967296\]"),
    "Sparse rows beyond counting, no starts": (
        with_operator(
            operator(2, NONE, 1, (1, 2, 3), block=(1, 1)),
            [np.zeros((0, 1), "f4"), np.zeros(0, "i4"), np.zeros(0, "i4")],
            NONE,
            1,
        ),
        r"row_starts: got int32 \[0\]; expected int32 \[4294967296\]",
    ),
    "int8 without a scale": (with_operator(DENSE, [I8]), "weights: got int8"),
    "int8 with a scale of 0": (int8(f32(0)), "scale of weights: 0; expected values > 0"),
    "int8 with a scale below 0": (int8(f32(-1)), "scale of weights: -1; expected values > 0"),
    "int8 with a scale that is none": (int8(f32(np.nan)), "scale of weights: value at .* is nan"),
    "int8 with two scales for a row": (int8(f32(1, 1)), "expected float32, one value or 1"),
    "int8 with scales in float16": (int8(f32(1).astype("f2")), "expected float32, one value or 1"),
    "int8 with scales of rank 2": (int8(f32([1])), "scale of weights: shape is"),
    "Sparse overhang": (sparse(values=((1, 2),), columns=(0,), starts=(0, 1), shape=(1, 1), block=(1, 2)), "outside"),
    "Sparse overhang of a huge matrix": (
        sparse(values=((1, 2),), columns=(2**31 - 1,), starts=(0, 1), shape=(1, NONE), block=(1, 2)),
        "outside the matrix must be 0",
    ),
    # metadata
    "metadata empty": (with_metadata(b""), "metadata is not JSON"),
    "metadata cut off": (with_metadata(b'{"a":'), "metadata is not JSON"),
    "metadata followed": (with_metadata(b'{"a":"b"}x'), "metadata is not JSON"),
    "metadata not UTF-8": (with_metadata(b'{"a":"\xff"}'), "metadata is not UTF-8"),
    "metadata in UTF-16": (with_metadata('{"a":"b"}'.encode("utf-16")), "metadata is not UTF-8"),
    "metadata a list": (with_metadata(b'["a"]'), "metadata is not an object of texts"),
    "metadata a number": (with_metadata(b'{"a":1}'), "metadata is not an object of texts"),
    "metadata NaN": (with_metadata(b'{"a":NaN}'), "metadata is not JSON"),
    "metadata nested": (with_metadata(b'{"a":{}}'), "metadata is not an object of texts"),
    "metadata lists without end": (with_metadata(b"[" * 200_000), "metadata: nested too deep"),
    "metadata tables without end": (with_metadata(b'{"a":' * 200_000), "metadata: nested too deep"),
    "metadata number without end": (with_metadata(b'{"a":' + b"1" * 10_000 + b"}"), "metadata is not"),
    "metadata half a character": (with_metadata(rb'{"a":"\ud800"}'), "metadata: .* is not Unicode text"),
    "metadata half a character, key": (with_metadata(rb'{"\udc00":"a"}'), "metadata: .* is not Unicode text"),
    "metadata dtype": (with_metadata(b'{"a":"b"}', dtype=(4, 1)), "metadata section has a dtype"),
    "metadata shape": (with_metadata(b'{"a":"b"}', rank=(24, 1), size=(28, 9)), "metadata section has a .*shape"),
}
