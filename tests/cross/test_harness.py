"""The harness of MLPerf Tiny on the serial line of a Cortex-M4 board."""

from pathlib import Path

from tests.cross import harness
from tests.cross.harness import HERE, TARGETS
from tests.cross.test_c_processors import with_tools
from tests.exporters.test_c_harness import NETWORKS, check_session, export
from tests.support.mlperf_tiny import Runner


def test_a_session_on_the_serial_line_of_a_board(tmp_path: Path) -> None:
    target = with_tools(TARGETS["cortex-m4"])
    folder = export(NETWORKS["float32"], tmp_path)
    sources = [folder / "net.c", folder / "net_harness.c", HERE / "uart.c"]
    program = harness.build(
        target, sources, tmp_path / "program", includes=[folder], defines=["SEN_HARNESS_PORT"], optimize="-Os"
    )
    with harness.serial(target, program) as process:
        assert process.stdin and process.stdout
        check_session(Runner(process.stdout.fileno(), process.stdin.fileno()), NETWORKS["float32"])
