"""Weights of exported C in a memory of their own."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sen_exporters.c.program import lower_network
from tests.cross import forms, harness
from tests.cross.harness import HERE, TARGETS

EXTERNAL = 0x21000000


@pytest.mark.parametrize("storage", ["array", "incbin"])
def test_the_self_test_with_weights_in_another_memory(storage: str, tmp_path: Path) -> None:
    target = TARGETS["cortex-m4"]
    if lacking := harness.missing(target):
        pytest.skip(f"{target.name} needs {', '.join(lacking)}")
    network = forms.every_form()["perceptron"]
    folder = forms.write(network, "net", tmp_path, storage)
    program = harness.build(
        replace(target, flags=(*target.flags, "-T", str(HERE / "external.ld"))),
        forms.sources(folder),
        tmp_path / "program",
        includes=[folder],
        defines=['NET_WEIGHTS_SECTION=".external"'],
    )
    assert harness.run(target, program).code == 0
    table = subprocess.run([f"{target.prefix}nm", program], check=True, capture_output=True, text=True).stdout
    symbols = {name: int(address, 16) for address, name in re.findall(r"^(\w+) \w (\w+)$", table, re.MULTILINE)}
    names = ["net_blob"] if storage == "incbin" else [each.symbol for each in lower_network(network, "net").constants]
    assert all(EXTERNAL <= symbols[name] < EXTERNAL + (1 << 20) for name in names)
    assert symbols["net_run"] < EXTERNAL
