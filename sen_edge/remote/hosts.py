"""Hosts to measure on: addresses for OpenSSH, and the inventory, a TOML file.

[hosts.pi4]
address = "pi@10.0.0.4"          # as for `ssh`: [user@]host, ssh://[user@]host[:port], or an alias of its config
python = "~/venv/bin/python"     # this interpreter, which has the runtime already; else one is set up there
cpu = 3                          # the core to measure on; [2, 3] for several, "big" for those of the highest capacity
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from sen_edge.errors import UsageError
from sen_edge.schema import Check, Schema, read_toml
from sen_runtime.bench.cores import BIG, Cpus
from sen_runtime.untrusted import quote

#: Destinations of `ssh`: neither user nor host may begin like an option, or hold what a shell could expand.
ADDRESS = re.compile(r"(ssh://)?([A-Za-z0-9_.][A-Za-z0-9_.+-]*@)?[A-Za-z0-9_.:\[][A-Za-z0-9_.:%\[\]-]*/?")
ADDRESS_FORMS = "[user@]host, ssh://[user@]host[:port], or an alias of your ssh configuration"

Address = Annotated[str, Check(lambda text: ADDRESS.fullmatch(text) is not None, ADDRESS_FORMS)]
Printable = Annotated[str, Check(str.isprintable, "printable text")]


def _are_cores(cpu: Any) -> bool:
    numbers = cpu if isinstance(cpu, list) else [cpu]
    return cpu in (None, BIG) or (bool(numbers) and all(type(number) is int and number >= 0 for number in numbers))


@dataclass(frozen=True)
class Host(Schema):
    """A machine to measure on; `python` is empty where an environment is created there."""

    address: Address
    python: Printable = ""
    cpu: Annotated[Any, Check(_are_cores, "a core, a list of cores, or 'big'")] = None

    @property
    def cpus(self) -> Cpus:
        """The cores, as `BenchRequest` has them."""
        return (self.cpu,) if isinstance(self.cpu, int) else tuple(self.cpu) if isinstance(self.cpu, list) else self.cpu


@dataclass(frozen=True)
class Inventory(Schema):
    """Hosts by name."""

    hosts: Annotated[Mapping[Annotated[Printable, MinLen(1)], Host], MinLen(1)]


def choose(names: Sequence[str], inventory: Path | None) -> dict[str, Host]:
    """Hosts of the inventory, or the named ones of them; a name that it does not have is an address.

    Raises:
        FileError: the inventory cannot be read.
        UsageError: a name is not an address; or two hosts are the same, and would disturb each other.
    """
    known = {} if inventory is None else read_toml(Inventory, inventory).hosts
    chosen: dict[str, Host] = {}
    for name in names or known:
        if name not in known and not ADDRESS.fullmatch(name):
            raise UsageError(f"--host is {quote(name)}; expected {ADDRESS_FORMS}")
        host = known.get(name) or Host(name)
        same = [other for other, each in chosen.items() if each.address == host.address]
        if same:
            raise UsageError(f"{same[0]} and {name} are the same host, {host.address}", "name it once")
        chosen[name] = host
    return chosen
