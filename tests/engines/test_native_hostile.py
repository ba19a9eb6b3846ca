"""The C library with hostile images, wrong arguments and inputs that are not finite."""

import ctypes
import re
import struct
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8
from sen_runtime import format as image
from sen_runtime.engines import native
from sen_runtime.errors import EngineError, ImageError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Sparse
from sen_runtime.memory_limits import MemoryLimitError
from tests.support.hostile_images import HOSTILE
from tests.support.native import SMALL, in_every_way
from tests.support.networks import by_source, random_input, random_network


def with_checksum(data: bytes) -> bytes:
    blank = data[:24] + bytes(4) + data[28:]
    return data[:24] + struct.pack("<I", zlib.crc32(blank)) + data[28:]


def load_or_refuse(data: bytes) -> bool:
    """Whether the library takes these bytes; then it must run them as well."""
    try:
        session = native.load(data)
    except (ImageError, EngineError, MemoryLimitError):
        return False
    if session.input.size < 1 << 24 and session.timesteps < 1000:  # an image may well ask for billions
        session.run(np.ones((2, *session.input.shape), np.float32))
    return True


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for size in range(len(SMALL)):
        assert not load_or_refuse(SMALL[:size])
    assert not load_or_refuse(SMALL + b"\0")
    (tmp_path / "empty.sen").touch()
    with pytest.raises(ImageError):
        native.load(tmp_path / "empty.sen")
    with pytest.raises(EngineError, match=r"absent\.sen"):
        native.load(tmp_path / "absent.sen")


def test_the_file_and_the_section_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.sen").write_bytes(SMALL[:-1])
    with pytest.raises(ImageError, match=r"cut\.sen"):
        native.load(tmp_path / "cut.sen")
    with pytest.raises(ImageError, match="section 1"):
        native.load(HOSTILE["shape too small"][0])


def test_large_matrix_without_blocks_takes_no_memory() -> None:
    """Found by fuzzing: every tile of every slice was looked at, which takes hours."""
    starts = np.zeros((1 << 22) + 1, np.int32)
    operator = Sparse(np.zeros((0, 1), np.float32), np.zeros(0, np.int32), starts, ((1 << 22), 65_000))
    native.load(image.dumps(Network((Layer(operator, None, Identity()),))))


def test_outputs_without_blocks_by_source_beyond_memory_are_refused() -> None:
    """A file of a few hundred bytes: the sums of its outputs would exceed what 32 bits count."""
    empty, scale = np.zeros((0, 2**31 - 1), np.int8), np.ones(1, np.float32)
    starts = np.zeros(2, np.int32)
    operator = Sparse(empty, starts[:0], starts, (2**31 - 1, 1), (2**31 - 1, 1), scale, "sources")
    data = image.dumps(Network((Layer(operator, None, Identity()),)))
    library, size = native._library(), ctypes.c_size_t()
    copy = native._aligned(len(data))
    copy[:] = np.frombuffer(data, np.uint8)
    assert library.sen_arena_size(copy.ctypes.data, copy.size, 0, ctypes.byref(size)) != 0


def test_a_changed_byte_is_found_by_the_checksum() -> None:
    for at in range(28, len(SMALL)):
        changed = bytearray(SMALL)
        changed[at] ^= 0x10
        with pytest.raises(ImageError):
            native.load(bytes(changed))


def test_images_with_any_word_replaced_are_refused_or_run() -> None:
    """With a right checksum, as an attacker would write it. A library that trusted them would die here."""
    rng = np.random.default_rng(0)
    kinds = ("dense", "sparse", "blocks", "low_rank", "nested_sum", "coordinates")
    for kind, spiking in product((*kinds, "int8", "int4", "sources"), (False, True)):
        kinds_of = {"int8": "nested_sum", "int4": "dense", "sources": "blocks"}.get(kind, kind)
        network = random_network(rng, spiking=spiking, kinds=(kinds_of,), sizes=(5, 4, 3))
        network = by_source(network) if kind == "sources" else network
        if kind in ("int8", "int4"):
            network = to_int8(network, random_input(rng, network, 64), bits=int(kind[3:]))
        data = image.dumps(network)
        taken = 0
        for at in range(0, min(len(data), 1600), 4):
            for word in (0, 1, 2, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, int(rng.integers(2**32))):
                taken += load_or_refuse(with_checksum(data[:at] + struct.pack("<I", word) + data[at + 4 :]))
        assert taken > 0


@pytest.mark.parametrize("arrange", [lambda network: network, by_source], ids=["rows", "sources"])
def test_library_and_reader_agree_on_what_is_an_image(arrange: Callable[[Network], Network]) -> None:
    rng = np.random.default_rng(1)
    data = image.dumps(arrange(random_network(rng, kinds=("blocks",), sizes=(5, 4, 3))))
    for at in range(64, 600, 4):
        changed = with_checksum(data[:at] + struct.pack("<I", 3) + data[at + 4 :])
        try:
            image.loads(changed)
        except ImageError:
            continue
        assert load_or_refuse(changed), at


def test_statuses_of_the_caller() -> None:
    library = native._library()
    size, model = ctypes.c_size_t(), ctypes.c_void_p()
    aligned = native._aligned(len(SMALL))
    aligned[:] = np.frombuffer(SMALL, np.uint8)
    address = aligned.ctypes.data

    def text(status: int) -> str:
        return library.sen_status_text(status).decode()

    assert text(library.sen_arena_size(None, 10, 0, ctypes.byref(size))) == "a pointer is null"
    assert text(library.sen_arena_size(address, len(SMALL), 0, None)) == "a pointer is null"
    assert "image does not start" in text(library.sen_arena_size(address + 1, 100, 0, ctypes.byref(size)))
    assert library.sen_arena_size(address, len(SMALL), 0, ctypes.byref(size)) == 0
    arena = native._aligned(size.value + 64)
    for start, length, expected in ((4, size.value, "arena does not start"), (0, size.value - 1, "arena is too small")):
        status = library.sen_load(ctypes.byref(model), address, len(SMALL), arena.ctypes.data + start, length, 0)
        assert expected in text(status) and not model.value
    assert text(99) == "unknown status"


#: What the library leaves to the reader: no weight, index or size depends on it.
UNCHECKED = re.compile(
    r"padding|the metadata|belong to no layer|values outside the matrix|mask has values outside"
    r"|version [356]; its network|end of odd rows"
)


def test_hostile_images_of_the_reader_are_refused_here_too(subtests: pytest.Subtests) -> None:
    for name, (data, _) in HOSTILE.items():
        with subtests.test(name):
            with pytest.raises(ImageError) as told:
                image.loads(data)
            taken = load_or_refuse(data)
            assert not taken or UNCHECKED.search(told.value.message), told.value.message


@in_every_way
def test_every_value_is_looked_at(way: dict) -> None:
    """In blocks and after them; the largest and the smallest finite numbers are no others."""
    for spiking in (False, True):
        network = random_network(np.random.default_rng(0), spiking=spiking, kinds=("dense",), sizes=(131, 2))
        session = native.load(image.dumps(network), **way)
        for at, value in product(range(131), (np.nan, -np.nan, np.inf, -np.inf)):
            for call, x in ((session.run, np.zeros((1, 131))), (session.run, np.zeros((3, 131)))):
                x[-1, at] = value
                with pytest.raises(EngineError, match=re.escape(f"[{len(x) - 1}, {at}]")):
                    call(x.astype(np.float32))
            session.input[...] = x[-1]
            with pytest.raises(EngineError, match=re.escape(f"[{at}]")):
                session.invoke()
            if spiking:
                session.reset()
                with pytest.raises(EngineError, match=re.escape(f"[{at}]")):
                    session.step(x[-1])
        for value in (
            np.finfo(np.float32).max,
            np.finfo(np.float32).min,
            np.finfo(np.float32).smallest_subnormal,
            -0.0,
        ):
            session.run(np.full((1, 131), value, np.float32))


def test_the_library_itself_refuses_what_is_not_finite() -> None:
    library, session = native._library(), native.load(SMALL)
    x, y = np.array([[1, 2, 3], [1, np.nan, 3]], np.float32), np.full((2, 2), 7, np.float32)
    assert library.sen_run_batch(session._model, x.ctypes.data, y.ctypes.data, 2) == native._NONFINITE
    np.testing.assert_array_equal(y, [session.run(x[0]), [7, 7]])
    assert library.sen_run(session._model, x[1:].ctypes.data, y.ctypes.data) == native._NONFINITE
    native.load(SMALL, allow_nonfinite=True).run(x)
