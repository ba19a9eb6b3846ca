"""Images built byte by byte, valid and malicious."""

import struct
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

from sen_edge.passes.quantize import to_int8
from sen_runtime import format as image
from sen_runtime.ir.network import Layer, Network
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


HOSTILE = {
    # header
    "empty": (b"", "0"),
    "magic": (seal(b"\x88" + TINY[1:]), "image"),
    "line endings translated": (seal(TINY.replace(b"\r\n", b"\n")), "image"),
    "version 0": (patched(TINY, 8, "H", 0), r"version.*0.*version 1"),
    "version 6": (patched(TINY, 8, "H", 6), r"version.*6.*version 1 to 5"),
    "header size": (patched(TINY, 10, "H", 128), "header"),
    "flags": (patched(TINY, 28, "I", 1), "flags"),
    "reserved, first": (patched(TINY, 32, "B", 1), "reserved"),
    "reserved, last": (patched(TINY, 63, "B", 1), "reserved"),
    "checksum": (TINY[:24] + bytes(4) + TINY[28:], "checksum"),
    "payload changed": (TINY[:-1] + b"\x00", "checksum"),
    "file size less": (patched(TINY, 16, "Q", len(TINY) - 1), r"header.*451"),
    "file size more": (patched(TINY, 16, "Q", len(TINY) + 1), r"header.*453"),
    "one byte more": (seal(TINY + b"\0"), r"1.*section"),
    "a block more": (seal(TINY + bytes(64)), r"64.*section"),
    # section table
    "no sections": (patched(TINY, 12, "I", 0), "0 sections"),
    "more sections than bytes": (patched(TINY, 12, "I", 9), "9 sections"),
    "one section more": (patched(TINY, 12, "I", 4), r"section 3.*0.*512"),
    "one section less": (patched(TINY, 12, "I", 2), r"section 0.*256.*192"),
    "rank 4": (patched(TINY, 64 + 48 + 24, "I", 4), r"section 1.*\b4, 1, 2, 0\b"),
    "size beyond the rank": (patched(TINY, 64 + 48 + 28 + 8, "I", 1), r"section 1.*\b2, 1, 2, 1\b"),
    "section reserved": (patched(TINY, 64 + 48 + 40, "Q", 1), "section 1"),
    "offset unaligned": (patched(TINY, 64 + 8, "Q", 257), r"section 0.*257.*256"),
    "offset 0": (patched(TINY, 64 + 48 + 8, "Q", 0), r"section 1.*0.*384"),
    "overlap": (patched(TINY, 64 + 96 + 8, "Q", 384), r"section 2.*384.*448"),
    "gap": (patched(TINY, 64 + 8, "Q", 320), r"section 0.*320.*256"),
    "outside": (patched(TINY, 64 + 96 + 8, "Q", 2**40), r"section 2.*1099511627776"),
    "size beyond the end": (patched(TINY, 64 + 96 + 16, "Q", 5), r"section 2.*5.*448"),
    "padding, first": (patched(TINY, PADDING, "B", 1), r"padding.*section 0"),
    "padding, last": (patched(TINY, 447, "B", 1), r"padding.*section 2"),
    "no program": (patched(TINY, 64, "I", 3), r"section 0.*kind 3"),
    "two programs": (patched(TINY, 64 + 48, "I", 1), r"section 1.*kind 1"),
    "metadata late": (patched(TINY, 64 + 96, "I", 2), r"section 2.*kind 2"),
    "kind 0": (patched(TINY, 64 + 48, "I", 0), r"section 1.*kind 0"),
    "kind 4": (patched(TINY, 64 + 96, "I", 4), r"section 2.*kind 4"),
    "program dtype": (patched(TINY, 64 + 4, "I", 1), r"program section.*dtype"),
    "program shape": (patched(patched(TINY, 64 + 24, "I", 1), 64 + 28, "I", 128), "program section"),
    "dtype 0": (patched(TINY, 64 + 48 + 4, "I", 0), "dtype 0"),
    "dtype 7": (patched(TINY, 64 + 48 + 4, "I", 7), "dtype 7"),
    "tensor without axes": (
        with_operator(operator(1, 1, 1, (1,)), [np.array(1, "f4")], 1, 1),
        r"shape \[\]",
    ),
    "shape too large": (patched(TINY, 64 + 48 + 28, "I", 2), r"shape \[2, 2\].*16"),
    "shape too small": (patched(TINY, 64 + 48 + 32, "I", 1), r"shape \[1, 1\].*4"),
    # program
    "program too short": (assemble(bytes(31)), r"program.*31.*32"),
    "program empty": (assemble(b""), r"program.*0"),
    "program longer": (assemble(TINY[256:384] + bytes(4), [W, B]), r"program.*132"),
    "program reserved": (patched(TINY, PROGRAM + 28, "I", 1), "program"),
    "no layers": (assemble(program(2, 1, [], [])), "layer"),
    "coding": (patched(TINY, PROGRAM + 12, "I", 2), r"coding.*2.*0.*1"),
    "readout": (patched(TINY, PROGRAM + 16, "I", 3), r"readout.*3.*0.*2"),
    "too many steps": (spiking(layer(0, 2, 3, 0.5), timesteps=2**20 + 1), r"timesteps.*1048577"),
    "spikes without steps": (patched(TINY, PROGRAM + 12, "I", 1), r"timesteps.*0"),
    "steps without spikes": (patched(TINY, PROGRAM + 8, "I", 1), r"layer 0.*Identity"),
    "inputs": (patched(TINY, PROGRAM + 20, "I", 3), r"program.*\b3, 1, 0\).*\b2, 1, 0\)"),
    "outputs": (patched(TINY, PROGRAM + 24, "I", 2), r"program.*\b2, 2, 0\).*\b2, 1, 0\)"),
    "layers that do not fit": (
        assemble(program(2, 1, [layer(), layer(1)], [DENSE, DENSE]), [W]),
        r"layer 0.*1 outputs.*layer 1.*2",
    ),
    # layers
    "layer operator": (with_layer(layer(1, 2)), r"layer 0.*operator 0.*\(1, 2"),
    "layer operator none": (with_layer(layer(NONE, 2)), r"layer 0.*operator 0.*\(4294967295, 2"),
    "operator of two layers": (
        assemble(program(1, 1, [layer(), layer()], [LEAF]), [ONE]),
        r"2 layers.*operators \[0\]",
    ),
    "bias is the program": (with_layer(layer(0, 0)), r"layer 0.*section 0"),
    "bias beyond the sections": (with_layer(layer(0, 3)), r"layer 0.*section 3"),
    "bias is a matrix": (with_layer(layer(0, 1)), r"layer 0.*bias.*shape"),
    "bias too long": (
        assemble(program(2, 1, [layer(0, 2)], [DENSE]), [W, f32(1, 2)]),
        r"layer 0.*bias.*2 values.*1",
    ),
    "neuron kind": (with_layer(layer(0, 2, neuron=4)), r"kind.*4.*0.*3"),
    "Identity with beta": (with_layer(layer(0, 2, beta=0.5)), "Identity"),
    "Relu with NaN": (with_layer(layer(0, 2, neuron=1, beta=np.nan)), "Relu"),
    "Relu with -0": (with_layer(layer(0, 2, neuron=1, beta=-0.0)), r"Relu.*-0\.0"),
    "Relu with threshold": (with_layer(layer(0, 2, neuron=1, threshold=1)), "Relu"),
    "Relu with reset": (with_layer(layer(0, 2, neuron=1, reset=1)), "Relu"),
    "LeakyIntegrator with threshold": (spiking(layer(0, 2, 3, 0.5, 1)), "LeakyIntegrator"),
    "layer reserved": (patched(TINY, LAYER + 24, "I", 1), "layer 0"),
    "layer reserved, last": (patched(TINY, LAYER + 28, "I", 1), "layer 0"),
    "reset": (spiking(layer(0, 2, 2, 0.5, 1, 4), readout=2), r"reset.*4.*0.*3"),
    "beta above 1": (spiking(layer(0, 2, 3, 1.5)), r"layer 0.*beta.*1.5"),
    "beta negative": (spiking(layer(0, 2, 3, -0.5)), r"layer 0.*beta.*-0.5"),
    "beta NaN": (spiking(layer(0, 2, 3, np.nan)), r"layer 0.*beta.*nan"),
    "threshold 0": (spiking(layer(0, 2, 2, 0.5, 0), readout=2), r"layer 0.*threshold.*0"),
    "threshold infinite": (spiking(layer(0, 2, 2, 0.5, np.inf), readout=2), r"layer 0.*threshold.*inf"),
    "spikes of a perceptron": (
        with_layer(layer(0, 2, 2, 0.5, 1)),
        r"layer 0.*Lif",
    ),
    "membrane without integrator": (spiking(layer(0, 2, 2, 0.5, 1)), "LeakyIntegrator"),
    # operators
    "operator kind": (with_operator(operator(6, 1, 2, (1,)), [W]), r"operator 0.*operator kind.*6.*0.*5"),
    "operator shape": (
        with_operator(operator(1, 2, 1, (1,)), [W]),
        r"operator 0.*\(1, 2, 1.*\(1, 1, 2",
    ),
    "operator reserved": (patched(TINY, OPERATOR + 56, "I", 1), "Dense"),
    "operator reserved, last": (patched(TINY, OPERATOR + 60, "I", 1), "Dense"),
    "tensor is the program": (with_operator(operator(1, 1, 2, (0,)), [W]), r"operator 0.*section 0"),
    "tensor beyond the sections": (with_operator(operator(1, 1, 2, (2,)), [W]), r"operator 0.*section 2"),
    "tensor none": (with_operator(operator(1, 1, 2), [W]), "section 4294967295"),
    "tensor is the metadata": (
        assemble(program(2, 1, [layer()], [DENSE]), [W], metadata=b'{"a":"b"}'),
        "section 1",
    ),
    "tensor unused": (with_operator(DENSE, [W, B]), r"sections \[2\].*layer"),
    "operator unused": (with_sums(LEAF, LEAF), r"1 layers.*operators \[0, 1\]"),
    "Dense with a scale it does not need": (
        with_operator(operator(1, 1, 2, (1, 2)), [W, B]),
        "int8",
    ),
    "Dense with a third tensor": (with_operator(operator(1, 1, 2, (1, 2, 2)), [I8, f32(2)]), "Dense"),
    "Dense with operands": (with_operator(operator(1, 1, 2, (1,), operands=(0, NONE)), [W]), "Dense"),
    "Dense with blocks": (with_operator(operator(1, 1, 2, (1,), block=(1, 1)), [W]), "Dense"),
    "Dense with scalars": (with_operator(operator(1, 1, 2, (1,), scalars=(0, 0, np.nan)), [W]), "Dense"),
    "Dense with -0": (with_operator(operator(1, 1, 2, (1,), scalars=(0, 0, 0, -0.0)), [W]), r"Dense.*-0\.0"),
    "Dense with max_distance": (
        with_operator(operator(1, 1, 2, (1,), scalars=(0, 0, 0, 1)), [W]),
        "Dense",
    ),
    "Dense of int32": (with_operator(DENSE, [W.astype(np.int32)]), r"weights.*int32"),
    "Dense of rank 3": (with_operator(DENSE, [f32([[1, 2]])]), r"weights.*shape"),
    "Dense without rows": (with_operator(operator(1, 0, 2, (1,)), [np.zeros((0, 2), "f4")], 0), r"weights.*shape"),
    "LowRank sizes": (with_operator(operator(3, 1, 2, (1, 2)), [W, W]), "sizes"),
    "Sum with a tensor": (
        with_sums(LEAF, LEAF, operator(4, 1, 1, (1,), operands=(0, 1)), top=2),
        "Sum",
    ),
    "Sum of itself": (with_sums(LEAF, sum_(0, 1), top=1), r"operator 1.*operands \[0, 1\]"),
    "Sum of a later one": (with_sums(LEAF, sum_(0, 2), LEAF, top=1), r"operands \[0, 2\]"),
    "Sum cycle": (with_sums(sum_(1, 2), sum_(0, 2), LEAF), r"operator 0.*operands \[1, 2\]"),
    "Sum of the same": (with_sums(LEAF, sum_(0, 0), top=1), r"operands \[0, 0\]"),
    "Sum of one used before": (
        with_sums(LEAF, LEAF, sum_(0, 1), sum_(2, 1), top=3),
        r"operator 3.*operands \[2, 1\]",
    ),
    "Sum of nothing": (with_sums(LEAF, sum_(0, NONE), top=1), r"operands \[0, 4294967295\]"),
    "operand of a sum in a layer": (with_sums(LEAF, LEAF, sum_(0, 1)), r"layer 0.*operator 2.*\(0, "),
    "Sum of two shapes": (
        assemble(program(1, 1, [layer(2)], [LEAF, operator(1, 1, 2, (2,)), sum_(0, 1)]), [ONE, W]),
        r"operator 2.*weights",
    ),
    "Sum too deep": (chain(33), r"operator 64.*32 deep"),
    "Coordinates mask": (with_coordinates(1, 1, 0, mask=(1, 2)), r"mask.*values outside \[-1, 1\]"),
    "Coordinates dimensions": (with_coordinates(1, 1, 0, target=((0, 1),)), r"source.*target"),
    "Coordinates gain": (with_coordinates(np.inf, 1, 0), r"gain.*inf"),
    "Coordinates exponent": (with_coordinates(1, 0, 0), r"exponent.*0"),
    "Coordinates min_distance": (with_coordinates(1, 1, -1), r"min_distance.*-1"),
    "Coordinates max_distance negative": (with_coordinates(1, 1, 0, -1), r"max_distance.*-1"),
    "Coordinates max_distance -0": (with_coordinates(1, 1, 0, -0.0), r"Coordinates.*-0\.0"),
    "Coordinates max_distance NaN": (with_coordinates(1, 1, 0, np.nan), r"max_distance.*nan"),
    "Coordinates max_distance infinite": (with_coordinates(1, 1, 0, np.inf), r"Coordinates.*\binf\b"),
    "Coordinates max_distance at the floor": (with_coordinates(1, 1, 2, 2), r"min_distance.*2"),
    "Coordinates reserved": (patched(with_coordinates(1, 1, 0, 2), 64 + 48 * 4 + 32 + 32 + 60, "I", 1), "Coordinates"),
    "Coordinates with blocks": (
        patched(with_coordinates(1, 1, 0, 2), 64 + 48 * 4 + 32 + 32 + 36, "I", 1),
        "Coordinates",
    ),
    "Sparse block 0": (sparse(block=(0, 1)), r"sizes.*1"),
    "Sparse block": (sparse(block=(2, 1)), r"values.*1 columns.*2.*1"),
    "Sparse columns too far": (sparse(columns=(0, 2)), r"columns.*0\.\.1"),
    "Sparse uint16 columns too far": (
        sparse(columns=(0, 65535), dtype=np.uint16),
        r"columns.*0\.\.1",
    ),
    "Sparse uint16 columns twice": (sparse(columns=(1, 1), dtype=np.uint16), "columns"),
    "Sparse columns of another type": (sparse(columns=(0, 1), dtype=np.float16), r"columns.*float16"),
    "Sparse columns negative": (sparse(columns=(-1, 1)), r"columns.*0\.\.1"),
    "Sparse columns twice": (sparse(columns=(1, 1)), "columns"),
    "Sparse columns few": (sparse(columns=(0,)), r"columns.*int32 \[1\].*int32 \[2\]"),
    "Sparse rows few": (sparse(starts=(0,)), r"row_starts.*int32 \[1\].*int32 \[2\]"),
    "Sparse rows, first": (sparse(starts=(1, 2)), r"row_starts.*0.*2"),
    "Sparse rows, last": (sparse(starts=(0, 2**31 - 1)), r"row_starts.*0.*2"),
    "Sparse rows fall": (sparse(starts=(0, 3, 2), shape=(2, 2)), r"row_starts.*0.*2"),
    "Sparse rows negative": (sparse(starts=(0, -(2**31), 2), shape=(2, 2)), r"row_starts.*0.*2"),
    "Sparse shape": (sparse(shape=(NONE, NONE)), r"row_starts.*int32 \[2\].*int32 \[4294967296\]"),
    "Sparse rows beyond counting, no starts": (
        with_operator(
            operator(2, NONE, 1, (1, 2, 3), block=(1, 1)),
            [np.zeros((0, 1), "f4"), np.zeros(0, "i4"), np.zeros(0, "i4")],
            NONE,
            1,
        ),
        r"row_starts.*int32 \[0\].*int32 \[4294967296\]",
    ),
    "sources of version 1": (sources(version=1), r"version 1.*version 3"),
    "sources of version 2": (sources(version=2), r"program.*136"),
    "sources without any": (patched(TINY, 8, "H", 3), r"version 3.*version 1"),
    "sources by row": (sparse(version=3), r"version 3.*version 1"),
    "sources in another order": (sources(order=2), r"order.*2.*0.*1"),
    "Dense by source": (with_operator(operator(1, 1, 2, (1,), order=1), [W], version=3), "Dense"),
    "sources of block 0": (sources(block=(1, 0)), r"sizes.*1"),
    "sources, rows too far": (sources(rows=(0, 2)), r"rows.*0\.\.1"),
    "sources, rows twice": (sources(rows=(1, 1)), "rows.*strictly within a column"),
    "sources, rows fall": (sources(rows=(1, 0)), "rows.*strictly within a column"),
    "sources, rows few": (sources(rows=(0,), values=((1,), (1,))), r"rows.*int32 \[1\].*int32 \[2\]"),
    "sources, rows of 32 bits": (sources(dtype=np.int32), r"rows.*int32.*uint16"),
    "sources, columns few": (sources(starts=(0, 2)), r"column_starts.*int32 \[2\].*int32 \[3\]"),
    "sources, columns, first": (sources(starts=(1, 1, 2)), r"column_starts.*0.*2"),
    "sources, columns, last": (sources(starts=(0, 0, 2**31 - 1)), r"column_starts.*0.*2"),
    "sources, columns fall": (sources(starts=(0, 3, 2)), r"column_starts.*0.*2"),
    "sources, columns negative": (sources(starts=(0, -(2**31), 2)), r"column_starts.*0.*2"),
    "sources of more rows than 16 bits name": (sources(shape=(65537, 2)), r"65537 block rows.*65536"),
    "sources of rows beyond counting": (
        sources((), (0, 0, 0), (NONE, 2), values=np.zeros((0, 1))),
        r"block rows.*65536",
    ),
    "sources, overhang": (
        sources(rows=(1,), starts=(0, 0, 1), shape=(3, 2), block=(2, 1), values=((1, 2),)),
        r"outside.*0",
    ),
    "int8 without a scale": (with_operator(DENSE, [I8]), r"weights.*int8"),
    "int8 with a scale of 0": (int8(f32(0)), r"scale.*weights.*0.*values.*0"),
    "int8 with a scale below 0": (int8(f32(-1)), r"scale.*weights.*-1.*values.*0"),
    "int8 with a scale that is none": (int8(f32(np.nan)), r"scale.*weights.*nan"),
    "int8 with two scales for a row": (int8(f32(1, 1)), r"float32.*1"),
    "int8 with scales in float16": (int8(f32(1).astype("f2")), r"float32.*1"),
    "int8 with scales of rank 2": (int8(f32([1])), r"scale.*weights.*shape"),
    "int4 of version 4": (int4(version=4), r"version 4.*version 5"),
    "int4 of version 1": (int4(version=1), r"version 1.*version 5"),
    "int4 without any": (
        assemble(TINY[256:384] + bytes(8) + b"\xff" * 24, [W, B], version=5),
        r"version 5.*version 1",
    ),
    "int4, few columns": (int4(shape=(1, 5)), r"weights.*uint8 \[1, 2\].*uint8 \[1, 3\]"),
    "int4, columns beyond counting": (int4(shape=(1, NONE)), r"weights.*uint8 \[1, 2\].*uint8 \[1, 2147483648\]"),
    "int4, few rows": (int4(shape=(2, 3)), r"Int4.*\b2, 3.*\b1, 3"),
    "int4, many steps": (int4(steps=((1, 1),)), r"steps.*uint8 \[1, 2\].*uint8 \[1, 1\]"),
    "int4, steps of another row": (int4(steps=((1,), (1,))), r"steps.*uint8 \[1, 2\]|steps.*\[2, 1\]"),
    "int4, scale of 0": (int4(scale=(0,)), r"scale.*0"),
    "int4, scales of another row": (int4(scale=(1, 1)), r"scale.*float32 \[2\]"),
    "int4, weights in a group of 0": (int4(steps=((0,),)), "step 0"),
    "int4, number behind an odd row": (int4(weights=(0x79, 0x73)), "odd rows"),
    "int4, step behind the groups": (int4(steps=((0x11,),)), "steps|odd rows"),
    "Sparse overhang": (sparse(values=((1, 2),), columns=(0,), starts=(0, 1), shape=(1, 1), block=(1, 2)), "outside"),
    "Sparse overhang of a huge matrix": (
        sparse(values=((1, 2),), columns=(2**31 - 1,), starts=(0, 1), shape=(1, NONE), block=(1, 2)),
        r"outside.*0",
    ),
    # int8 activations
    "version 1 with the grid of an input": (patched(int8_dense(), 8, "H", 1), r"program.*136.*128"),
    "version 1 with the grid of a layer": (with_layer(layer(bias=2, grid=(0.5, 0))), "layer 0"),
    "version 2 without grids": (patched(TINY, 8, "H", 2), r"program.*128.*136"),
    "version 2 with an input grid of 0": (int8_dense(grid=(0.0, 0)), "no grid"),
    "grid below 0": (int8_dense(grid=(-0.5, 0)), r"scale.*-0\.5"),
    "grid that is none": (int8_dense(grid=(np.nan, 0)), r"scale.*nan"),
    "grid too fine": (int8_dense(grid=(1e-39, 0)), r"scale.*1e-39"),
    "zero point beyond int8": (int8_dense(grid=(0.5, 128)), r"zero point.*128"),
    "layer without a grid": (int8_dense(layer_grid=(0.0, 0)), "layer 0"),
    "layer with a grid too fine": (int8_dense(layer_grid=(1e-39, 0)), r"layer 0.*1e-39"),
    "layer with a zero point beyond int8": (int8_dense(layer_grid=(0.5, -129)), r"layer 0.*-129"),
    "float weights with grids": (integers(layer(grid=(0.5, 0)), DENSE, [W]), "int8 weights"),
    "Dense with grids inside": (
        integers(layer(grid=(0.5, 0)), operator(1, 1, 2, (1, 2), scalars=(0.5, 0)), [I8, SCALE]),
        r"Dense.*0\.5",
    ),
    "LowRank without a grid inside": (int8_low_rank(), "layer 0"),
    "LowRank with a fraction as zero point": (int8_low_rank(0.5, 0.5), r"zero point.*0\.5"),
    "LowRank with a zero point that is none": (int8_low_rank(0.5, np.nan), r"zero point.*nan"),
    "LowRank with a zero point of -0": (int8_low_rank(0.5, -0.0), "LowRank"),
    "LowRank with two grids inside": (int8_low_rank(0.5, 0, 0.5), "LowRank"),
    "threshold off the grid": (int8_spiking(0.6), r"threshold.*0\.6"),
    "threshold beyond the grid": (int8_spiking(64.0), r"threshold.*64"),
    "more steps than int8 counts": (int8_spiking(timesteps=256), r"256.*255"),
    "bias beyond int32": (
        integers(layer(bias=3, grid=(0.5, 0)), INT8_DENSE, [I8, SCALE, f32(2e9)]),
        r"neuron 0.*32 bits",
    ),
    # metadata
    "metadata empty": (with_metadata(b""), r"metadata.*JSON"),
    "metadata cut off": (with_metadata(b'{"a":'), r"metadata.*JSON"),
    "metadata followed": (with_metadata(b'{"a":"b"}x'), r"metadata.*JSON"),
    "metadata not UTF-8": (with_metadata(b'{"a":"\xff"}'), r"metadata.*UTF-8"),
    "metadata in UTF-16": (with_metadata('{"a":"b"}'.encode("utf-16")), r"metadata.*UTF-8"),
    "metadata a list": (with_metadata(b'["a"]'), "metadata"),
    "metadata a number": (with_metadata(b'{"a":1}'), "metadata"),
    "metadata NaN": (with_metadata(b'{"a":NaN}'), r"metadata.*JSON"),
    "metadata nested": (with_metadata(b'{"a":{}}'), "metadata"),
    "metadata lists without end": (with_metadata(b"[" * 200_000), r"metadata.*deep"),
    "metadata tables without end": (with_metadata(b'{"a":' * 200_000), r"metadata.*deep"),
    "metadata number without end": (with_metadata(b'{"a":' + b"1" * 10_000 + b"}"), "metadata"),
    "metadata half a character": (with_metadata(rb'{"a":"\ud800"}'), r"metadata.*Unicode"),
    "metadata half a character, key": (with_metadata(rb'{"\udc00":"a"}'), r"metadata.*Unicode"),
    "metadata dtype": (with_metadata(b'{"a":"b"}', dtype=(4, 1)), r"metadata section.*dtype"),
    "metadata shape": (with_metadata(b'{"a":"b"}', rank=(24, 1), size=(28, 9)), "metadata section"),
}
