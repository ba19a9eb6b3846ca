"""What machine this is, and whether it ran at full speed.

All of it is read below an injectable root and through an injectable command runner. What a machine does not tell, and
what makes no sense, is `UNAVAILABLE`: nothing here raises because of what a file holds.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Optional

import sen_runtime

#: Calls a command and returns what it printed, or None where there is no such command or it failed.
Run = Callable[[Sequence[str]], Optional[str]]
#: What `state` returns; see there.
State = Mapping[str, Any]

UNAVAILABLE = "unavailable"
#: A clock lower than the highest of the run by more than this share has changed.
CLOCK_TOLERANCE = 0.1
#: So many of the samples must have changed, and no fewer than two: one may have met the core between two turns.
CLOCK_SHARE = 0.05
LEAST_SAMPLES = 2

COMMAND_SECONDS = 5.0
LIBRARIES = ("numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "sen-edge-runtime")

#: Bits of `vcgencmd get_throttled` that hold now; those 16 higher tell of the time since boot.
THROTTLED_BITS = {
    0: "under-voltage: the power supply or its cable is too weak",
    1: "the firmware capped the clock of the cores",
    2: "the cores were throttled",
    3: "the soft temperature limit was reached",
}
SINCE_BOOT = 16

#: (implementer, part) of /proc/cpuinfo -> core; "Main ID Register" in Arm's manuals of the cores.
CORES = {
    ("0x41", "0xb76"): "ARM1176",
    ("0x41", "0xc05"): "Cortex-A5",
    ("0x41", "0xc07"): "Cortex-A7",
    ("0x41", "0xc08"): "Cortex-A8",
    ("0x41", "0xc09"): "Cortex-A9",
    ("0x41", "0xc0f"): "Cortex-A15",
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
}
#: Thermal zones of the processor, best first; any other zone is better than none.
ZONES = ("cpu", "x86_pkg", "soc")
#: What a thermometer next to a working processor can show, degrees Celsius.
COLDEST, HOTTEST = -60.0, 200.0


def run_command(command: Sequence[str]) -> str | None:
    """What a command prints, or None where it is missing, fails or takes longer than `COMMAND_SECONDS`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def describe(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """What does not change while the machine runs: board, processor, system, and the versions of what is installed.

    `python`, `libraries` and `compiler` (of the native library) are those of this process.
    """
    cpuinfo = _cpuinfo(root)
    return {
        "model": _model(root),
        "revision": _revision(root, cpuinfo),
        "cpu": _cpu(cpuinfo),
        "architecture": _word(run(("uname", "-m"))),
        "userland_bits": _userland_bits(root),
        "kernel": _word(_read(root / "proc/sys/kernel/osrelease")),
        "os": _os(root),
        "cpus": len(cpuinfo) or UNAVAILABLE,
        "ram_bytes": _meminfo(root).get("MemTotal", UNAVAILABLE),
        "python": platform.python_version(),
        "caches": _caches(root),
        "libraries": {name: _installed(name) for name in LIBRARIES},
        "compiler": _compiler(),
    }


def state(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """What does change: governor, clocks (MHz), temperature, throttling, load of the last minute, swap.

    The lists have one value for each core that has a clock of its own to read, in the order of the cores.
    """
    memory = _meminfo(root)
    swap = memory.get("SwapTotal"), memory.get("SwapFree")
    measured = celsius(root)
    return {
        "governor": _governors(root),
        "mhz": _clocks(root, "scaling_cur_freq", "cpuinfo_cur_freq") or UNAVAILABLE,
        "min_mhz": _clocks(root, "scaling_min_freq", "cpuinfo_min_freq") or UNAVAILABLE,
        "max_mhz": _clocks(root, "scaling_max_freq", "cpuinfo_max_freq") or UNAVAILABLE,
        "arm_clock_mhz": _arm_clock_mhz(run),
        "celsius": UNAVAILABLE if measured is None else measured,
        "throttled": _throttled(run),
        "load": _load(root),
        "swap_used_bytes": UNAVAILABLE if swap[0] is None or swap[1] is None else max(0, swap[0] - swap[1]),
    }


def cpu_mhz(root: Path = Path("/")) -> float | None:
    """Clock of the fastest core now: that of a busy one where cores have clocks of their own."""
    return max(_clocks(root, "scaling_cur_freq", "cpuinfo_cur_freq"), default=None)


def celsius(root: Path = Path("/")) -> float | None:
    """Temperature of the processor, or of the first thermal zone that says anything."""
    zones = []
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*"), key=lambda path: _trailing_number(path.name)):
        number = _number(_read(zone / "temp"))
        if number is not None and COLDEST <= number / 1000 <= HOTTEST:
            kind = (_read(zone / "type") or "").lower()
            rank = next((rank for rank, word in enumerate(ZONES) if word in kind), len(ZONES))
            zones.append((rank, number / 1000))
    return min(zones, key=lambda zone: zone[0])[1] if zones else None


def changes(before: State, after: State, during: Sequence[State] = ()) -> list[str]:
    """Sentences about what happened to the machine in a run and invalidates it; none where it ran evenly.

    - A bit of `get_throttled` that holds in a sample taken during the run or after it, or that tells of the time
      since boot and was not set before.
    - In the samples taken during the run, the clock was lower than the highest of them by more than
      `CLOCK_TOLERANCE`, in at least `CLOCK_SHARE` of them and twice. The clock of a sample is what the firmware
      measured, else that of the fastest core. Before and after, the cores may idle at any clock; and a clock that is
      low all the time, such as that of the governor "powersave", is no change.
    - The firmware measured a clock lower than the kernel's by more than that, as often.
    - Governor, or the limits of the clock, are others after than before.

    Args:
        before: from `state`, before the run.
        after: the same after it.
        during: the same, taken while a core was busy measuring. Keys may be missing.
    """
    return [*_throttling(before, after, during), *_clock_changes(during), *_setting_changes(before, after)]


def _throttling(before: State, after: State, during: Sequence[State]) -> list[str]:
    held, told = 0, 0
    for sample in (*during, after):
        bits = _bits(sample)
        held |= bits & (1 << SINCE_BOOT) - 1
        told |= bits >> SINCE_BOOT
    happened = held | told & ~(_bits(before) >> SINCE_BOOT)
    found = {bit: what for bit, what in THROTTLED_BITS.items() if happened >> bit & 1}
    return [f"{what} (vcgencmd get_throttled, bit {bit})" for bit, what in found.items()]


def _bits(sample: State) -> int:
    try:
        return int(str(sample.get("throttled")), 16)
    except ValueError:
        return 0


def _clock_changes(during: Sequence[State]) -> list[str]:
    pairs = [(_firmware_mhz(sample), _fastest_mhz(sample)) for sample in during]
    clocks = [clock for firmware, kernel in pairs if (clock := firmware or kernel)]
    sentences = []
    low = [clock for clock in clocks if clock < (1 - CLOCK_TOLERANCE) * max(clocks)]
    if _is_often(len(low), len(clocks)):
        sentences.append(
            f"the clock of the cores fell from {max(clocks):.0f} to {min(low):.0f} MHz "
            f"in {len(low)} of {len(clocks)} samples taken while they were busy"
        )
    both = [(firmware, kernel) for firmware, kernel in pairs if firmware and kernel]
    apart = [(firmware, kernel) for firmware, kernel in both if firmware < (1 - CLOCK_TOLERANCE) * kernel]
    if _is_often(len(apart), len(both)):
        firmware, kernel = min(apart)
        sentences.append(
            f"the cores ran at {firmware:.0f} MHz (vcgencmd measure_clock arm) where the kernel says {kernel:.0f} MHz, "
            f"in {len(apart)} of {len(both)} samples"
        )
    return sentences


def _is_often(count: int, total: int) -> bool:
    return count >= max(LEAST_SAMPLES, CLOCK_SHARE * total)


def _firmware_mhz(sample: State) -> float | None:
    clock = sample.get("arm_clock_mhz")
    return float(clock) if isinstance(clock, (int, float)) else None


def _fastest_mhz(sample: State) -> float | None:
    clocks = sample.get("mhz")
    return max(clocks, default=None) if isinstance(clocks, list) else None


def _setting_changes(before: State, after: State) -> list[str]:
    names = {"governor": "the governor", "min_mhz": "the least clock", "max_mhz": "the greatest clock"}
    sentences = []
    for key, name in names.items():
        values = before.get(key), after.get(key)
        if all(isinstance(value, list) for value in values) and values[0] != values[1]:
            sentences.append(f"{name} changed from {_brief(values[0])} to {_brief(values[1])} during the run")
    return sentences


def _brief(values: Any) -> str:
    """The different ones of a list, each once."""
    return ", ".join(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in values))


def _read(path: Path) -> str | None:
    """What is in a file, without NUL and space at its ends; None where there is none or it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return None


def _word(text: str | None) -> str:
    """The first line that can be printed, or `UNAVAILABLE`."""
    line = "".join(letter for letter in (text or "").strip().split("\n")[0] if letter.isprintable()).strip()
    return line.replace("\N{REPLACEMENT CHARACTER}", "") or UNAVAILABLE


def _number(text: str | None) -> int | None:
    match = re.fullmatch(r"-?[0-9]{1,18}", text or "")
    return int(match.group()) if match else None


def _trailing_number(name: str) -> int:
    match = re.search(r"[0-9]+$", name)
    return int(match.group()) if match else -1


def _cpuinfo(root: Path) -> list[dict[str, str]]:
    """The blocks of /proc/cpuinfo that are about a core; what follows the last is in the last."""
    cores: list[dict[str, str]] = []
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            continue
        if key == "processor" and value.isdecimal():
            cores.append({})
        if cores:
            cores[-1][key] = value
    return cores


def _model(root: Path) -> str:
    board = _word(_read(root / "proc/device-tree/model"))
    if board != UNAVAILABLE:
        return board
    names = (_word(_read(root / "sys/class/dmi/id" / name)) for name in ("sys_vendor", "product_name"))
    return " ".join(name for name in names if name != UNAVAILABLE) or UNAVAILABLE


def _revision(root: Path, cpuinfo: list[dict[str, str]]) -> str:
    if cpuinfo and "Revision" in cpuinfo[-1]:
        return _word(cpuinfo[-1]["Revision"])
    try:
        stored = (root / "proc/device-tree/system/linux,revision").read_bytes()
    except OSError:
        return UNAVAILABLE
    return stored.hex().lstrip("0") or UNAVAILABLE if len(stored) == 4 else UNAVAILABLE


def _cpu(cpuinfo: list[dict[str, str]]) -> str:
    """Names of the kinds of core. A 32-bit kernel calls all ARM cores the same, so their parts are asked first."""
    names = []
    for core in cpuinfo:
        implementer, part = core.get("CPU implementer", ""), core.get("CPU part", "")
        other = core.get("model name") or (f"implementer {implementer} part {part}" if part else "")
        names.append(CORES.get((implementer.lower(), part.lower()), other))
    return _word(" + ".join(dict.fromkeys(name for name in names if name)))


def _userland_bits(root: Path) -> int | str:
    """32 or 64: class of this program's own ELF file. The kernel may have more bits than the programs."""
    try:
        with (root / "proc/self/exe").open("rb") as file:
            head = file.read(5)
    except OSError:
        return UNAVAILABLE
    return {b"\x7fELF\x01": 32, b"\x7fELF\x02": 64}.get(head, UNAVAILABLE)


def _os(root: Path) -> str:
    for path in ("etc/os-release", "usr/lib/os-release"):
        match = re.search(r"""^PRETTY_NAME=(["']?)(.*?)\1$""", _read(root / path) or "", re.MULTILINE)
        if match and match.group(2):
            return _word(match.group(2))
    return UNAVAILABLE


def _meminfo(root: Path) -> dict[str, int]:
    """Bytes by name."""
    lines = re.findall(r"^(\w+):\s*([0-9]{1,15}) kB$", _read(root / "proc/meminfo") or "", re.MULTILINE)
    return {name: 1024 * int(kilobytes) for name, kilobytes in lines}


def _caches(root: Path) -> dict[str, int | None] | str:
    """Bytes of the data caches of the first core; None for a level it does not have."""
    found: dict[str, int | None] = {"l1d": None, "l2": None, "l3": None}
    for index in root.glob("sys/devices/system/cpu/cpu0/cache/index*"):
        size = re.fullmatch(r"([0-9]{1,12})([KMG]?)", _read(index / "size") or "")
        name = {("1", "Data"): "l1d", ("1", "Unified"): "l1d", ("2", "Unified"): "l2", ("3", "Unified"): "l3"}.get(
            (_read(index / "level") or "", _read(index / "type") or "")
        )
        if size and name:
            found[name] = int(size.group(1)) << {"": 0, "K": 10, "M": 20, "G": 30}[size.group(2)]
    return found if any(found.values()) else UNAVAILABLE


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return UNAVAILABLE


def _compiler() -> str:
    """What GCC and clang write into the libraries they make."""
    for library in sorted((Path(sen_runtime.__file__).parent / "c").glob("libsen.*")):
        if library.suffix in (".so", ".dylib"):
            match = re.search(rb"GCC: \([^)\0]*\) [0-9.]+|clang version [0-9.]+", library.read_bytes())
            if match:
                return _word(match.group().decode("ascii", "replace").replace("GCC: ", "GCC "))
    return UNAVAILABLE


def _cpufreq(root: Path) -> list[Path]:
    """Folders of the cores that have a clock, in the order of the cores."""
    folders = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    return sorted(folders, key=lambda folder: _trailing_number(folder.parent.name))


def _governors(root: Path) -> list[str] | str:
    names = [_word(_read(folder / "scaling_governor")) for folder in _cpufreq(root)]
    return [name for name in names if name != UNAVAILABLE] or UNAVAILABLE


def _clocks(root: Path, *names: str) -> list[float]:
    """MHz of each core, from the first of the files that holds a clock (kHz)."""
    clocks = []
    for folder in _cpufreq(root):
        numbers = (_number(_read(folder / name)) for name in names)
        khz = next((number for number in numbers if number is not None and number > 0), None)
        if khz is not None:
            clocks.append(khz / 1000)
    return clocks


def _arm_clock_mhz(run: Run) -> float | str:
    match = re.search(r"frequency\([0-9]+\)=([0-9]{1,18})\s*$", run(("vcgencmd", "measure_clock", "arm")) or "")
    return int(match.group(1)) / 1e6 if match and int(match.group(1)) else UNAVAILABLE


def _throttled(run: Run) -> str:
    match = re.search(r"throttled=(0x[0-9a-fA-F]{1,8})\s*$", run(("vcgencmd", "get_throttled")) or "")
    return match.group(1).lower() if match else UNAVAILABLE


def _load(root: Path) -> float | str:
    match = re.match(r"[0-9]{1,6}\.[0-9]+", _read(root / "proc/loadavg") or "")
    return float(match.group()) if match else UNAVAILABLE
