"""Which machines to measure on: addresses for OpenSSH, and the inventory, a TOML file.

[hosts.pi4]
address = "pi@10.0.0.4"          # as for `ssh`: [user@]host, ssh://[user@]host[:port], or an alias of its config
python = "~/venv/bin/python"     # this interpreter, which has the runtime already; else one is set up there
cpu = 3                          # the core to measure on
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.errors import UsageError
from sen_edge.schema import MAX_BYTES, load_toml
from sen_runtime.errors import SenError
from sen_runtime.untrusted import printable, quote, read_regular

#: What an address may hold; neither the user nor the host may begin like an option.
ADDRESS = re.compile(r"(ssh://)?([A-Za-z0-9_.][A-Za-z0-9_.+-]*@)?[A-Za-z0-9_.:\[][A-Za-z0-9_.:%\[\]-]*/?")
KEYS = {"address": "a string", "python": "a string", "cpu": "a whole number from 0"}
EXAMPLE = 'a host is a table such as [hosts.pi4] with address = "pi@10.0.0.4"'


class InventoryError(SenError):
    """An inventory that cannot be read."""


@dataclass(frozen=True)
class Host:
    """A machine to measure on.

    Attributes:
        name: what it is called in messages and results.
        address: what `ssh` calls it.
        python: interpreter there that has the runtime; empty where an environment is to be made.
        cpu: core to measure on, or None.
    """

    name: str
    address: str
    python: str = ""
    cpu: int | None = None


def choose(names: Sequence[str], inventory: Path | None) -> list[Host]:
    """The hosts of the inventory, or those of them that are named; a name that it does not have is an address.

    Raises:
        InventoryError: the inventory cannot be read.
        UsageError: a name is no address, or is there twice.
    """
    known = {} if inventory is None else read_inventory(inventory)
    hosts = [known.get(name) or Host(name, name) for name in names or known]
    for host in hosts:
        if not is_address(host.address):
            raise UsageError(
                f"--host {quote(host.address)} is no address; expected [user@]host, ssh://[user@]host[:port], or an "
                "alias of your ssh configuration"
            )
    _refuse_twice(hosts)
    return hosts


def is_address(text: str) -> bool:
    """Whether this can be given to `ssh` as a destination: nothing that it, or a shell, could take for more."""
    return ADDRESS.fullmatch(text) is not None


def read_inventory(path: Path) -> dict[str, Host]:
    """Hosts by their names.

    Raises:
        InventoryError: the file cannot be read, is not TOML, or has an entry that is not one of a host.
    """
    document = load_toml(read_regular(path, MAX_BYTES, error=InventoryError), str(path), error=InventoryError)
    unknown = [name for name in document if name != "hosts"]
    if unknown:
        raise InventoryError(f"{path}: unknown entry {printable(unknown[0], 80)}; expected hosts", hint=EXAMPLE)
    tables = document.get("hosts")
    if not isinstance(tables, dict) or not tables:
        raise InventoryError(f"{path}: hosts is {quote(tables)}; expected at least one table", hint=EXAMPLE)
    return {name: _host(path, name, table) for name, table in tables.items()}


def _host(path: Path, name: str, table: Any) -> Host:
    where = f"{path}: [hosts.{printable(name, 80)}]"
    if not isinstance(table, dict):
        raise InventoryError(f"{where} is {quote(table)}; expected a table", hint=EXAMPLE)
    for key, value in table.items():
        if key not in KEYS:
            raise InventoryError(f"{where}: unknown key {printable(key, 80)}; expected one of {', '.join(KEYS)}")
        is_right = _is_count(value) if key == "cpu" else isinstance(value, str) and value.isprintable() and value
        if not is_right:
            raise InventoryError(f"{where}: {key} = {quote(value)}; expected {KEYS[key]}")
    if not name.isprintable() or not name:
        raise InventoryError(f"{where}: {quote(name)} is no name; expected printable characters")
    if "address" not in table:
        raise InventoryError(f"{where}: address is missing", hint=EXAMPLE)
    if not is_address(table["address"]):
        raise InventoryError(
            f"{where}: address = {quote(table['address'])}; expected [user@]host, ssh://[user@]host[:port], or an "
            "alias of your ssh configuration"
        )
    return Host(name, **table)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse_twice(hosts: Iterable[Host]) -> None:
    """Two measurements at once on one machine would disturb each other."""
    seen: dict[str, Host] = {}
    for host in hosts:
        if host.address in seen:
            raise UsageError(f"{host.address} is there twice, as {seen[host.address].name} and as {host.name}")
        seen[host.address] = host
