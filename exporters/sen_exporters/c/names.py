"""Names of features and outputs as C strings."""

from __future__ import annotations

from collections.abc import Mapping

from sen_runtime.ir.network import Network


def names(network: Network) -> Mapping[str, tuple[str, ...]]:
    """Names of all features or outputs in the metadata, by "feature" and "output"; incomplete ones left out."""
    found = {
        "feature": (network.names("feature_names"), network.n_features),
        "output": (network.names("output_names"), network.n_out),
    }
    return {kind: given for kind, (given, size) in found.items() if len(given) == size}


def string(text: str) -> str:
    """C string literal of the UTF-8 bytes of a text, in ASCII; an unpaired surrogate becomes `?`."""
    escaped = {ord(character): f"\\{character}" for character in '\\"?'}  # ? of trigraphs
    content = (
        escaped.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}")
        for byte in text.encode("utf-8", "replace")
    )
    return f'"{"".join(content)}"'


def nbytes(network: Network) -> int:
    """Flash of all names on a 32-bit device: pointers and strings."""
    return sum(4 + len(name.encode("utf-8", "replace")) + 1 for given in names(network).values() for name in given)
