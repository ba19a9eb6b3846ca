"""Networks in one program that share their kernels."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime.ir.network import Network
from tests.cross import forms, harness
from tests.cross.harness import HERE, TARGETS
from tests.support.c_exports import export, small

M4 = TARGETS["cortex-m4"]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if lacking := harness.missing(M4):
        pytest.skip(f"{M4.name} needs {', '.join(lacking)}")


def program_of(networks: dict[str, Network], folder: Path, kernels: str) -> Path:
    """A program for Cortex-M4 that runs the self-tests of all networks."""
    folders = [
        CExporter().export(network, COptions(name=name, weights="array", kernels=kernels)).write(folder).parent
        for name, network in networks.items()
    ]
    calls = " + ".join(f"{name}_selftest()" for name in networks)
    headers = "".join(f'#include "{name}.h"\n' for name in networks)
    (folder / "selftests.h").write_text(f"{headers}static int run_selftests(void)\n{{\n    return {calls};\n}}\n")
    sources = [source for each in folders for source in forms.sources(each) if source.name != "sen_kernels.c"]
    library = [folders[0] / "sen_kernels.c"] if kernels == "shared" else []
    return harness.build(
        M4,
        [*sources, *library, HERE / "selftests_main.c"],
        folder / "program",
        includes=[folder, *folders],
        defines=["SEN_SELFTEST_NO_MAIN"],
        optimize="-Os",
    )


def sizes(program: Path) -> int:
    """Bytes of code and constants."""
    table = subprocess.run([f"{M4.prefix}size", program], check=True, capture_output=True, text=True).stdout
    return int(table.splitlines()[1].split()[0])


def test_every_form_with_shared_kernels(tmp_path: Path) -> None:
    networks = {f"net_{name}": network for name, network in forms.every_form().items()}
    assert harness.run(M4, program_of(networks, tmp_path, "shared")).code == 0


def test_two_networks_are_smaller_with_shared_kernels(tmp_path: Path) -> None:
    networks = {f"net_{seed}": to_int8_weights(small("sum", seed=seed)) for seed in range(2)}
    shared, private = (program_of(networks, tmp_path / kernels, kernels) for kernels in ("shared", "private"))
    assert harness.run(M4, shared).code == harness.run(M4, private).code == 0
    assert sizes(shared) < sizes(private) - 1000


def test_flash_of_shared_kernels_is_no_larger_than_estimated(tmp_path: Path) -> None:
    """Of the functions in a program that names all of them."""
    artifact = export(small("nested_sum", "int8", spiking=True), kernels="shared")
    folder = artifact.write(tmp_path).parent
    main = tmp_path / "main.c"
    main.write_text(
        '#include "net.h"\nstatic net_arena arena;\nstatic float x[NET_INPUTS], y[NET_OUTPUTS];\n'
        "int main(void)\n{\n    uint32_t size;\n    net_reset(&arena);\n"
        "    return net_run(&arena, x, y) + net_step(&arena, x, y) + (net_layer_output(&arena, 0, &size) == y);\n}\n"
    )
    program = harness.build(
        M4, [folder / "net.c", folder / "sen_kernels.c", main], tmp_path / "program", includes=[folder], optimize="-Os"
    )
    command = [f"{M4.prefix}nm", "-lS", program]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = sum(int(size, 16) for size in parts_of(table, ("net_", "sen_", "layer", "network", "kernels")))
    assert 0.6 * artifact.footprint["flash"] <= found <= artifact.footprint["flash"]


def parts_of(table: str, prefixes: Iterable[str]) -> list[str]:
    """Sizes of the symbols with these prefixes, in flash."""
    return re.findall(rf"^\w+ (\w+) [tTrR] (?:{'|'.join(prefixes)})", table, re.MULTILINE)
