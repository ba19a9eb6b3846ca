"""Untrusted files and documents: accepted content, errors, quoting in messages."""

import errno
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen_edge.schema import load_toml
from sen_runtime.errors import SenError
from sen_runtime.untrusted import MAX_DEPTH, FileError, listing, load_json, printable, quote, read_regular


class OwnError(SenError):
    """The class a reader asks for."""


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


def shared(levels: int) -> list:
    """A list of two references to one list, and so on: 2^levels items in a few bytes."""
    value: list = [1]
    for _ in range(levels):
        value = [value, value]
    return value


def is_clean(text: str) -> bool:
    return text.isprintable()


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo", "socket", "/dev/zero", "/dev/null", "null character"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = Path(kind) if kind.startswith("/") else tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "null character":
        path = tmp_path / "a\0b"
    with socket.socket(socket.AF_UNIX) as own:
        if kind == "socket":
            own.bind(str(path))
        with pytest.raises(OwnError) as caught:
            read_regular(path, error=OwnError)
    assert is_clean(caught.value.message)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path) == read_regular(path, 5) == b"12345"
    with pytest.raises(FileError):
        read_regular(path, 4)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"1"


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "file").write_bytes(b"1")
    monkeypatch.setattr("os.open", refuse)  # root, as in CI, may read everything
    with pytest.raises(FileError):
        read_regular(tmp_path / "file")


JSON = {
    "empty": b"",
    "not UTF-8": b'"\xff"',
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "one level too many": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "100,000 digits": b"1" * 100_000,
    "10^400": b"1" + b"0" * 400,
    "float beyond range": b"1e400",
    "NaN": b"[NaN]",
    "surrogate": rb'"\ud800"',
    "surrogate in a key": rb'{"\udc00": 1}',
    "key twice": b'{"a": 1, "a": 2}',
}


@pytest.mark.parametrize("name", JSON)
def test_hostile_json_is_one_error(name: str) -> None:
    with pytest.raises(OwnError) as caught:
        load_json(JSON[name], "file", error=OwnError)
    assert is_clean(caught.value.message)
    assert len(caught.value.message) < 300


def test_json_is_read_with_and_without_a_byte_order_mark() -> None:
    wanted = {"a": [1, -2.5, "\U0001f600", None]}
    for content in (rb'{"a": [1, -2.5, "\ud83d\ude00", null]}', '\ufeff{"a": [1, -2.5, "\U0001f600", null]}'):
        assert load_json(content, "file") == wanted
    assert load_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "file") == nested(MAX_DEPTH)


TOML = {
    "not UTF-8": b"a = 1\n# \xff",
    "nested lists": b"a = " + b"[" * 30_000,
    "nested tables": b"a = " + b"{a = " * 10_000,
    "dotted key": b".".join([b"a"] * 20_000) + b" = 1",
    "quoted dotted key": b".".join([b'"a b"'] * 9_000) + b" = 1",
    "dotted table": b"[" + b".".join([b"a"] * 20_000) + b"]",
    "60,000 digits": b"a = " + b"1" * 60_000,
    "hexadecimal": b"a = 0x" + b"f" * 60_000,
    "float beyond range": b"a = 1e400",
    "infinity": b"a = inf",
    "surrogate": rb'a = "\ud800"',
    "key twice": b"a = 1\na = 2",
}


@pytest.mark.parametrize("name", TOML)
def test_hostile_toml_is_one_error(name: str) -> None:
    with pytest.raises(OwnError) as caught:
        load_toml(TOML[name], "file", error=OwnError)
    assert is_clean(caught.value.message)
    assert len(caught.value.message) < 300


def test_toml_is_read_with_and_without_a_byte_order_mark() -> None:
    content = b'version = "1.2.3"  # ' + b"." * 500 + b"\n[a.b]\nc = [0.5" + b", 1.5" * 500 + b"]\n"
    wanted = {"version": "1.2.3", "a": {"b": {"c": [0.5] + [1.5] * 500}}}
    assert load_toml(content, "file") == load_toml(b"\xef\xbb\xbf" + content, "file") == wanted


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


@given(VALUES, st.integers(10, 100))
def test_a_quoted_value_is_short_and_clean(value: object, limit: int) -> None:
    text = quote(value, limit)
    assert is_clean(text)
    assert len(text) <= limit


@pytest.mark.parametrize(
    "value", [shared(40), nested(100_000), 10**400, "a" * 10**7, object(), {"\x1b[31m": shared(30)}]
)
def test_a_value_of_any_size_is_quoted(value: object) -> None:
    assert len(quote(value)) <= 80
    assert is_clean(quote(value))


def test_quoted_value_shows_its_kind() -> None:
    assert quote("a\x1b[0m") == r"'a\x1b[0m'"
    assert quote({"a": [1, 2.5, None]}) == "{'a': [1, 2.5, None]}"
    assert quote([1, 2, 3, 4, 5]) == "[1, 2, 3, 4, ...]"


@given(st.text(st.characters()))
def test_printable_text_has_no_control_characters(text: str) -> None:
    assert is_clean(printable(text))


def test_printable_text_is_one_line_and_bounded() -> None:
    assert printable("a\n   b\x1b[31m\u202e\udcff") == r"a b\x1b[31m\u202e\udcff"
    assert len(printable("a" * 10**6)) < 3000
    assert listing(f"layer.{i}" for i in range(10**5)).endswith(f"and {10**5 - 8:,} more")
    assert is_clean(listing(["\x1b", 10**400, None]))
