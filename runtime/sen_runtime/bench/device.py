"""What machine this is, its state, and what software this process runs.

Texts of kernel files and commands come from this machine, or from a file that `sen_bench` wrote on another one.
Anything missing or malformed is `UNAVAILABLE`: no text raises an error.
"""

from __future__ import annotations

import fnmatch
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Optional

import sen_runtime
from sen_runtime.engines import usable

#: Runs a command and returns its output, or None where it is missing or fails.
Run = Callable[[Sequence[str]], Optional[str]]
#: Returns content by path for a pattern of files, all without their leading slash; or by command line for a command,
#: which has a space.
Read = Callable[[str], Mapping[str, bytes]]

UNAVAILABLE = "unavailable"
COMMAND_SECONDS = 5.0
OS_FOLDERS = ("etc", "usr/lib")

#: Part in /proc/cpuinfo -> core of the implementer Arm; "Main ID Register" in the manuals of the cores.
ARM = "0x41"
CORES = {
    "0xb76": "ARM1176", "0xc05": "Cortex-A5", "0xc07": "Cortex-A7", "0xc08": "Cortex-A8", "0xc09": "Cortex-A9",
    "0xc0f": "Cortex-A15", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77", "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
}  # fmt: skip
#: (level, type) of a data cache -> name.
CACHES = {("1", "Data"): "l1d", ("1", "Unified"): "l1d", ("2", "Unified"): "l2", ("3", "Unified"): "l3"}
#: Thermal zones of the processor, best first; any other zone is better than none.
ZONES = ("cpu", "x86_pkg", "soc")
#: Plausible temperatures of a processor, degrees Celsius.
MIN_CELSIUS, MAX_CELSIUS = -60.0, 200.0


def run_command(command: Sequence[str]) -> str | None:
    """Output of a command, or None where it is missing, fails or takes longer than `COMMAND_SECONDS`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def describe(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """Facts of this machine, and of this process: `python`, `libraries`, and `compiler` of the native library."""
    return {
        **parse_facts(_reader(root, run)),
        "python": platform.python_version(),
        "libraries": {name: _installed(name) for name in libraries()},
        "compiler": _compiler(),
    }


def state(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """Present state of this machine."""
    return parse_state(_reader(root, run))


def _reader(root: Path, run: Run) -> Read:
    def read(pattern: str) -> dict[str, bytes]:
        if " " in pattern:
            return {pattern: (run(pattern.split()) or "").encode()}
        texts = {}
        for path in root.glob(pattern):
            with suppress(OSError), path.open("rb") as file:
                texts[str(path.relative_to(root))] = file.read(5) if path.name == "exe" else file.read()
        return texts

    return read


def recorded(texts: Mapping[str, bytes]) -> Read:
    """Reads what another machine recorded."""
    return lambda pattern: {name: texts[name] for name in fnmatch.filter(texts, pattern)}


def libraries() -> list[str]:
    """Distributions whose versions matter: the package of each engine."""
    packages = dict.fromkeys(each.package for each in usable().values() if each.package)
    return ["numpy", *packages, "sen-edge-runtime"]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return UNAVAILABLE


def _compiler() -> str:
    """The comment that GCC and clang write into a library."""
    for library in sorted((Path(sen_runtime.__file__).parent / "c").glob("libsen.*")):
        if library.suffix in (".so", ".dylib"):
            match = re.search(rb"GCC: \([^)\0]*\) [0-9.]+|clang version [0-9.]+", library.read_bytes())
            if match:
                return match.group().decode("ascii", "replace").replace("GCC: ", "GCC ")
    return UNAVAILABLE


# --- parsing -------------------------------------------------------------------------------------


def parse_facts(read: Read) -> dict[str, Any]:
    """Constant facts of a machine: board, processor, system, and caches."""
    cpuinfo = _cpuinfo(read)
    names = [_find(read, f"{folder}/os-release", r"""(?m)^PRETTY_NAME=["']?(.*?)["']?$""") for folder in OS_FOLDERS]
    return _mark_unknown(
        model=_model(read),
        revision=_revision(read, cpuinfo),
        cpu=_cpu(cpuinfo),
        architecture=_word(_text(read, "uname -m")),
        userland_bits={b"\x7fELF\x01": 32, b"\x7fELF\x02": 64}.get(_bytes(read, "proc/self/exe")[:5]),
        kernel=_word(_text(read, "proc/sys/kernel/osrelease")),
        os=_word(names[0] or names[1]),
        cpus=len(cpuinfo) or None,
        ram_bytes=_meminfo(read).get("MemTotal"),
        caches=_caches(read),
    )


def parse_state(read: Read) -> dict[str, Any]:
    """Governor, clocks (MHz), temperature, throttling, load of the last minute, swap.

    Lists have one value for each core with its own clock, in the order of the cores.
    """
    memory = _meminfo(read)
    files = "cpufreq/scaling_governor", "cpufreq/scaling_*_freq", "cpufreq/cpuinfo_*_freq"
    cores = _numbered(read, "sys/devices/system/cpu/cpu", *files)
    governors = [_word(core.get("cpufreq/scaling_governor", "")) for core in cores]
    arm_clock_hz = int(_find(read, "vcgencmd measure_clock arm", r"frequency\([0-9]+\)=([0-9]{1,18})$") or 0)
    load = _find(read, "proc/loadavg", r"^([0-9]{1,6}\.[0-9]+)")
    has_swap = {"SwapTotal", "SwapFree"} <= memory.keys()
    return _mark_unknown(
        governor=list(filter(None, governors)),
        mhz=_clocks(cores, "cur_freq"),
        min_mhz=_clocks(cores, "min_freq"),
        max_mhz=_clocks(cores, "max_freq"),
        arm_clock_mhz=arm_clock_hz / 1e6 if arm_clock_hz else None,
        celsius=_celsius(read),
        throttled=_find(read, "vcgencmd get_throttled", r"throttled=(0x[0-9a-fA-F]{1,8})$").lower(),
        load=float(load) if load else None,
        swap_used_bytes=max(0, memory["SwapTotal"] - memory["SwapFree"]) if has_swap else None,
    )


def _mark_unknown(**values: Any) -> dict[str, Any]:
    return {name: UNAVAILABLE if value in (None, "", []) else value for name, value in values.items()}


def _bytes(read: Read, name: str) -> bytes:
    """A file, or the output of a command; empty where there is none."""
    return read(name).get(name, b"")


def _clean(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip("\0 \t\r\n")


def _text(read: Read, name: str) -> str:
    return _clean(_bytes(read, name))


def _find(read: Read, name: str, pattern: str) -> str:
    """The group of a pattern in a text; empty where there is none."""
    match = re.search(pattern, _text(read, name))
    return match.group(1) if match else ""


def _word(text: str) -> str:
    """The printable characters of the first line."""
    line = "".join(letter for letter in text.strip().split("\n")[0] if letter.isprintable()).strip()
    return line.replace("\N{REPLACEMENT CHARACTER}", "")


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def _numbered(read: Read, prefix: str, *files: str) -> list[dict[str, str]]:
    """Texts by name of some files in each of the folders PREFIX0, PREFIX1, ... in the order of their numbers."""
    found: dict[int, dict[str, str]] = {}
    for name, text in (item for file in files for item in read(f"{prefix}[0-9]*/{file}").items()):
        if match := re.fullmatch(rf"{prefix}([0-9]{{1,6}})/(.+)", name):
            found.setdefault(int(match.group(1)), {})[match.group(2)] = _clean(text)
    return [found[number] for number in sorted(found)]


def _cpuinfo(read: Read) -> list[dict[str, str]]:
    """A block of /proc/cpuinfo for each core; the lines after the last core belong to it."""
    cores: list[dict[str, str]] = []
    for line in _text(read, "proc/cpuinfo").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdecimal():
            cores.append({})
        if cores and colon:
            cores[-1][key] = value
    return cores


def _model(read: Read) -> str:
    """The board of a device tree, or maker and product of a PC."""
    maker = [_word(_text(read, f"sys/class/dmi/id/{name}")) for name in ("sys_vendor", "product_name")]
    return _word(_text(read, "proc/device-tree/model")) or " ".join(filter(None, maker))


def _revision(read: Read, cpuinfo: list[dict[str, str]]) -> str:
    if cpuinfo and "Revision" in cpuinfo[-1]:
        return _word(cpuinfo[-1]["Revision"])
    stored = _bytes(read, "proc/device-tree/system/linux,revision")
    return stored.hex().lstrip("0") if len(stored) == 4 else ""


def _cpu(cpuinfo: list[dict[str, str]]) -> str:
    """Names of the kinds of core, by their part first: a 32-bit kernel gives all ARM cores one model name."""
    names = []
    for core in cpuinfo:
        implementer, part = core.get("CPU implementer", ""), core.get("CPU part", "")
        known = CORES.get(part.lower(), "") if implementer.lower() == ARM else ""
        names.append(known or core.get("model name") or (f"implementer {implementer} part {part}" if part else ""))
    return _word(" + ".join(dict.fromkeys(filter(None, names))))


def _meminfo(read: Read) -> dict[str, int]:
    """Bytes by name."""
    lines = re.findall(r"^(\w+):\s*([0-9]{1,15}) kB$", _text(read, "proc/meminfo"), re.MULTILINE)
    return {name: 1024 * int(kilobytes) for name, kilobytes in lines}


def _caches(read: Read) -> dict[str, int | None] | None:
    """Bytes of the data caches of the first core; None for an absent level."""
    found: dict[str, int | None] = {"l1d": None, "l2": None, "l3": None}
    for cache in _numbered(read, "sys/devices/system/cpu/cpu0/cache/index", "level", "type", "size"):
        size = re.fullmatch(r"([0-9]{1,12})([KMG]?)", cache.get("size", ""))
        name = CACHES.get((cache.get("level", ""), cache.get("type", "")))
        if size and name:
            found[name] = int(size.group(1)) << {"": 0, "K": 10, "M": 20, "G": 30}[size.group(2)]
    return found if any(found.values()) else None


def _clocks(cores: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """MHz of each core, from the first file that holds a clock (kHz)."""
    clocks = []
    for core in cores:
        numbers = [_number(core.get(f"cpufreq/{kind}_{name}", "")) for kind in ("scaling", "cpuinfo")]
        clocks += [khz / 1000 for khz in numbers if khz is not None and khz > 0][:1]
    return clocks


def _celsius(read: Read) -> float | None:
    """Temperature of the processor, or of the first thermal zone that reports one."""
    zones = []
    for zone in _numbered(read, "sys/class/thermal/thermal_zone", "temp", "type"):
        number, kind = _number(zone.get("temp", "")), zone.get("type", "").lower()
        if number is not None and MIN_CELSIUS <= number / 1000 <= MAX_CELSIUS:
            rank = next((rank for rank, word in enumerate(ZONES) if word in kind), len(ZONES))
            zones.append((rank, number / 1000))
    return min(zones, key=lambda zone: zone[0])[1] if zones else None
