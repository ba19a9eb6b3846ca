"""Description and throttling of the machine, from recorded trees."""

import platform

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen_runtime.bench import device
from sen_runtime.bench.device import UNAVAILABLE, describe, run_command, state
from sen_runtime.bench.throttle import changes, fastest_mhz
from tests.support.boards import BOARDS, pi_3, pi_4, pi_5, pi_zero_2, plain_pc, virtual_machine

MIB = 1 << 20
NO_CACHE = {"l1d": None, "l2": None, "l3": None}
EXPECTED = {
    "zero-2": {
        "model": "Raspberry Pi Zero 2 W Rev 1.0", "revision": "902120", "cpu": "Cortex-A53", "architecture": "aarch64",
        "userland_bits": 64, "kernel": "6.6.31+rpt-rpi-v8", "os": "Debian GNU/Linux 12 (bookworm)", "cpus": 4,
        "ram_bytes": 436980 * 1024, "caches": {"l1d": 32768, "l2": 524288, "l3": None},
    },
    "3": {
        "model": "Raspberry Pi 3 Model B Rev 1.2", "revision": "a02082", "cpu": "Cortex-A53", "architecture": "aarch64",
        "userland_bits": 32, "kernel": "6.1.21-v8+", "os": "Raspbian GNU/Linux 12 (bookworm)", "cpus": 4,
        "ram_bytes": 926320 * 1024, "caches": UNAVAILABLE,
    },
    "4": {
        "model": "Raspberry Pi 4 Model B Rev 1.4", "revision": "c03114", "cpu": "Cortex-A72", "architecture": "aarch64",
        "userland_bits": 64, "kernel": "6.6.31+rpt-rpi-v8", "os": "Debian GNU/Linux 12 (bookworm)", "cpus": 4,
        "ram_bytes": 3884328 * 1024, "caches": {"l1d": 32768, "l2": MIB, "l3": None},
    },
    "5": {
        "model": "Raspberry Pi 5 Model B Rev 1.0", "revision": "d04170", "cpu": "Cortex-A76", "architecture": "aarch64",
        "userland_bits": 64, "kernel": "6.6.31+rpt-rpi-2712", "os": "Debian GNU/Linux 12 (bookworm)", "cpus": 4,
        "ram_bytes": 8245232 * 1024, "caches": {"l1d": 65536, "l2": 524288, "l3": 2 * MIB},
    },
    "pc": {
        "model": "Dell Inc. Latitude 7490", "revision": UNAVAILABLE, "cpu": "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz",
        "architecture": "x86_64", "userland_bits": 64, "kernel": "6.1.0-21-amd64",
        "os": "Debian GNU/Linux 12 (bookworm)", "cpus": 8, "ram_bytes": 16243124 * 1024,
        "caches": {"l1d": 32768, "l2": 262144, "l3": 8 * MIB},
    },
    "vm": dict.fromkeys(
        ("model", "revision", "cpu", "architecture", "userland_bits", "kernel", "os", "cpus", "ram_bytes", "caches"),
        UNAVAILABLE,
    ),
}  # fmt: skip


def pi_state(mhz=1800.0, arm=UNAVAILABLE, throttled=UNAVAILABLE, **others):
    """A state of four cores that share a clock."""
    fixed = {"governor": ["ondemand"] * 4, "min_mhz": [600.0] * 4, "max_mhz": [1800.0] * 4}
    return {**fixed, "mhz": [mhz] * 4, "arm_clock_mhz": arm, "throttled": throttled, **others}


IDLE = pi_state(600.0)


@pytest.mark.parametrize("name", BOARDS)
def test_describes_recorded_boards(tmp_path, name):
    board = BOARDS[name]()
    found = describe(board.write(tmp_path), board.run)
    of_this_process = {key: found.pop(key) for key in ("python", "libraries", "compiler")}
    assert found == EXPECTED[name]
    assert of_this_process["python"] == platform.python_version()
    assert of_this_process["libraries"]["numpy"] == np.__version__
    assert set(of_this_process["libraries"]) == set(device.libraries())
    assert of_this_process["compiler"].startswith(("GCC", "clang", UNAVAILABLE))


def test_state_of_a_pi(tmp_path):
    board = pi_zero_2()
    assert state(board.write(tmp_path), board.run) == {
        "governor": ["ondemand"] * 4,
        "mhz": [600.0] * 4,
        "min_mhz": [600.0] * 4,
        "max_mhz": [1000.0] * 4,
        "arm_clock_mhz": 1000.000404,
        "celsius": 44.008,
        "throttled": "0x0",
        "load": 0.31,
        "swap_used_bytes": (102396 - 61436) * 1024,
    }


def test_state_of_a_machine_that_tells_nothing(tmp_path):
    board = virtual_machine()
    assert set(state(board.write(tmp_path), board.run).values()) == {UNAVAILABLE}


def test_no_swap_is_none_used(tmp_path):
    board = pi_5()
    assert state(board.write(tmp_path), board.run)["swap_used_bytes"] == 0


def test_clock_is_that_of_the_busy_core_and_temperature_that_of_the_processor(tmp_path):
    board = plain_pc()
    found = state(board.write(tmp_path), board.run)
    assert (fastest_mhz(found), found["celsius"]) == (3902.417, 62.0)


def test_cores_are_in_order_beyond_ten(tmp_path):
    name = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    board = virtual_machine().but({name.format(core): f"{1000 * (core + 1)}\n" for core in range(12)})
    assert state(board.write(tmp_path), board.run)["mhz"] == [float(core + 1) for core in range(12)]


def test_kinds_of_core_are_all_named(tmp_path):
    block = "processor : {}\nCPU implementer : {}\nCPU part : {}\n\n"
    cores = [("0x41", "0xd03"), ("0x41", "0xd03"), ("0x41", "0xD08"), ("0x51", "0x001")]
    board = virtual_machine().but({"proc/cpuinfo": "".join(block.format(i, *core) for i, core in enumerate(cores))})
    assert describe(board.write(tmp_path), board.run)["cpu"] == (
        "Cortex-A53 + Cortex-A72 + implementer 0x51 part 0x001"
    )


def test_name_of_a_board_cannot_steer_a_terminal(tmp_path):
    board = pi_4().but({"proc/device-tree/model": b"Pi\x1b[2J \xff\xfe<b>\nsecond\0\0"})
    assert describe(board.write(tmp_path), board.run)["model"] == "Pi[2J <b>"


@pytest.mark.parametrize(
    "answer", ["", "throttled=", "throttled=0xZZ", "error=1 error_msg=\"Command not registered\"", "VCHI failed", "0x5"]
)  # fmt: skip
def test_invalid_output_of_vcgencmd(tmp_path, answer):
    board = pi_4().but(get_throttled=answer, measure_clock=answer)
    found = state(board.write(tmp_path), board.run)
    assert (found["throttled"], found["arm_clock_mhz"]) == (UNAVAILABLE, UNAVAILABLE)


@given(st.binary(max_size=60))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_garbage_in_every_file_never_raises(tmp_path_factory, garbage):
    board, root = pi_4(), tmp_path_factory.mktemp("board")
    board.but(dict.fromkeys(board.files, garbage)).write(root)
    text = garbage.decode("latin-1")
    for found in (describe(root, lambda command: text), state(root, lambda command: text)):
        assert found
    assert changes(state(root, lambda command: text), state(root, lambda command: text)) is not None


def test_folders_in_place_of_files(tmp_path):
    for name in pi_4().files:
        (tmp_path / name).mkdir(parents=True)
    assert describe(tmp_path, lambda command: None)["model"] == UNAVAILABLE
    assert set(state(tmp_path, lambda command: None).values()) == {UNAVAILABLE}


@pytest.mark.parametrize("temperature", ["0x20", "", "-273150", "9999999", "NaN"])
def test_temperatures_that_cannot_be(tmp_path, temperature):
    board = pi_4().but({"sys/class/thermal/thermal_zone0/temp": temperature})
    assert state(board.write(tmp_path), board.run)["celsius"] == UNAVAILABLE


def test_commands_that_are_missing_or_fail_or_hang(monkeypatch):
    assert run_command(("a-command-that-is-not-there",)) is None
    assert run_command(("false",)) is None
    assert run_command(("echo", "frequency(0)=1")) == "frequency(0)=1\n"
    monkeypatch.setattr(device, "COMMAND_SECONDS", 0.05)
    assert run_command(("sleep", "5")) is None


@pytest.mark.parametrize(
    ("before", "during", "after", "bits"),
    [
        pytest.param("0x0", ["0x0"], "0x0", [], id="none"),
        pytest.param("0x50000", ["0x50000"], "0x50000", [], id="since boot, before as well"),
        pytest.param("0x0", ["0x0"], "0x50000", [0, 2], id="new since boot"),
        pytest.param("0x50000", ["0x50000"], "0xd0000", [3], id="another since boot"),
        pytest.param("0x50000", ["0x50005"], "0x50000", [0, 2], id="again, while running"),
        pytest.param("0x20002", ["0x20002"], "0x20002", [1], id="all the time"),
        pytest.param("0x10001", ["0x10000"], "0x10000", [], id="over before it began"),
        pytest.param(UNAVAILABLE, [UNAVAILABLE], UNAVAILABLE, [], id="no vcgencmd"),
        pytest.param("0x0", [UNAVAILABLE, "0x0"], UNAVAILABLE, [], id="vcgencmd goes away"),
    ],
)
def test_throttling(before, during, after, bits):
    states = [pi_state(throttled=bits) for bits in (before, *during, after)]
    found = changes(states[0], states[-1], states[1:-1])
    assert [int(sentence.split("bit ")[1].rstrip(")")) for sentence in found] == bits


@pytest.mark.parametrize(
    ("clocks", "is_change"),
    [
        pytest.param([1800.0] * 40, False, id="steady"),
        pytest.param([600.0] * 40, False, id="slow all the time"),
        pytest.param([600.0] + [1800.0] * 39, False, id="one sample between two turns"),
        pytest.param([1800.0] * 30 + [1000.0] * 10, True, id="throttled at the end"),
        pytest.param([1800.0] * 10 + [1000.0] * 30, True, id="throttled early"),
        pytest.param([4200.0, 4190.0, 3950.0, 4100.0] * 10, False, id="turbo"),
        pytest.param([1800.0] * 990 + [600.0] * 10, False, id="one in a hundred"),
        pytest.param([1400.0, 1200.0], False, id="too few to tell"),
        pytest.param([], False, id="none"),
    ],
)
def test_change_of_the_clock_while_busy(clocks, is_change):
    found = changes(IDLE, IDLE, [pi_state(clock) for clock in clocks])
    assert ["clock" in sentence for sentence in found] == [True] * is_change


def test_clocks_before_and_after_do_not_matter():
    assert changes(pi_state(600.0), pi_state(1800.0), [pi_state(1800.0)] * 10) == []


def test_idle_cores_do_not_matter():
    busy = pi_state()
    busy["mhz"] = [600.0, 600.0, 1800.0, 600.0]
    moved = {**busy, "mhz": [1800.0, 600.0, 600.0, 600.0]}
    assert changes(IDLE, IDLE, [busy, moved] * 10) == []


def test_firmware_knows_of_a_lower_clock_than_the_kernel():
    found = changes(IDLE, IDLE, [pi_state(1800.0, arm=1000.0)] * 10)
    assert len(found) == 1 and all(figure in found[0] for figure in ("1000 MHz", "1800 MHz", "10 of 10"))
    assert changes(IDLE, IDLE, [pi_state(1500.0, arm=2400.0)] * 10) == []  # a stale figure of the kernel's


def test_change_of_governor_or_limits():
    after = pi_state(governor=["powersave"] * 4, max_mhz=[1200.0] * 4)
    governor, limit = changes(IDLE, after)
    assert "ondemand" in governor and "powersave" in governor and "1800" in limit and "1200" in limit


def test_thirty_two_bit_programs_on_a_64_bit_kernel(tmp_path):
    board = pi_3()
    found = describe(board.write(tmp_path), board.run)
    assert (found["architecture"], found["userland_bits"]) == ("aarch64", 32)
