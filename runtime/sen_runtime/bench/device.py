"""What machine this is, its state, and what software this process runs.

Texts of kernel files and commands come from this machine, or from a file that `sen_bench` wrote on another one.
Anything missing or malformed is `UNAVAILABLE`: no text raises an error.
"""

from __future__ import annotations

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
#: Content by the path of a file without its leading slash, or by command line.
Texts = Mapping[str, bytes]

UNAVAILABLE = "unavailable"
COMMAND_SECONDS = 5.0

#: Texts of `parse_facts` and `parse_state`: commands, which have a space, and patterns of files.
FACTS = (
    "uname -m",
    "proc/device-tree/model",
    "proc/device-tree/system/linux,revision",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/sys/kernel/osrelease",
    "proc/self/exe",
    "etc/os-release",
    "usr/lib/os-release",
    "sys/devices/system/cpu/cpu0/cache/index*/level",
    "sys/devices/system/cpu/cpu0/cache/index*/type",
    "sys/devices/system/cpu/cpu0/cache/index*/size",
)
STATE = (
    "vcgencmd get_throttled",
    "vcgencmd measure_clock arm",
    "proc/loadavg",
    "proc/meminfo",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/thermal_zone*/type",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_*_freq",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_*_freq",
)
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
        **parse_facts(_read(FACTS, root, run)),
        "python": platform.python_version(),
        "libraries": {name: _installed(name) for name in libraries()},
        "compiler": _compiler(),
    }


def state(root: Path = Path("/"), run: Run = run_command) -> dict[str, Any]:
    """Present state of this machine."""
    return parse_state(_read(STATE, root, run))


def _read(sources: Sequence[str], root: Path, run: Run) -> Texts:
    texts = {source: (run(source.split()) or "").encode() for source in sources if " " in source}
    for path in (path for source in sources if source not in texts for path in root.glob(source)):
        with suppress(OSError), path.open("rb") as file:
            texts[str(path.relative_to(root))] = file.read(5) if path.name == "exe" else file.read()
    return texts


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


def parse_facts(texts: Texts) -> dict[str, Any]:
    """Constant facts of a machine: board, processor, system, and caches."""
    cpuinfo = _cpuinfo(texts)
    pretty_name = r"""(?m)^PRETTY_NAME=["']?(.*?)["']?$"""
    return _mark_unknown(
        model=_model(texts),
        revision=_revision(texts, cpuinfo),
        cpu=_cpu(cpuinfo),
        architecture=_word(_text(texts, "uname -m")),
        userland_bits={b"\x7fELF\x01": 32, b"\x7fELF\x02": 64}.get(texts.get("proc/self/exe", b"")[:5]),
        kernel=_word(_text(texts, "proc/sys/kernel/osrelease")),
        os=_word(_find(texts, "etc/os-release", pretty_name) or _find(texts, "usr/lib/os-release", pretty_name)),
        cpus=len(cpuinfo) or None,
        ram_bytes=_meminfo(texts).get("MemTotal"),
        caches=_caches(texts),
    )


def parse_state(texts: Texts) -> dict[str, Any]:
    """Governor, clocks (MHz), temperature, throttling, load of the last minute, swap.

    Lists have one value for each core with its own clock, in the order of the cores.
    """
    memory, cores = _meminfo(texts), _numbered(texts, "sys/devices/system/cpu/cpu")
    governors = [_word(core.get("cpufreq/scaling_governor", "")) for core in cores]
    arm_clock_hz = int(_find(texts, "vcgencmd measure_clock arm", r"frequency\([0-9]+\)=([0-9]{1,18})$") or 0)
    load = _find(texts, "proc/loadavg", r"^([0-9]{1,6}\.[0-9]+)")
    has_swap = {"SwapTotal", "SwapFree"} <= memory.keys()
    return _mark_unknown(
        governor=list(filter(None, governors)),
        mhz=_clocks(cores, "cur_freq"),
        min_mhz=_clocks(cores, "min_freq"),
        max_mhz=_clocks(cores, "max_freq"),
        arm_clock_mhz=arm_clock_hz / 1e6 if arm_clock_hz else None,
        celsius=_celsius(texts),
        throttled=_find(texts, "vcgencmd get_throttled", r"throttled=(0x[0-9a-fA-F]{1,8})$").lower(),
        load=float(load) if load else None,
        swap_used_bytes=max(0, memory["SwapTotal"] - memory["SwapFree"]) if has_swap else None,
    )


def _mark_unknown(**values: Any) -> dict[str, Any]:
    return {name: UNAVAILABLE if value in (None, "", []) else value for name, value in values.items()}


def _text(texts: Texts, name: str) -> str:
    """A text without NUL and white space at its ends; empty where there is none."""
    return texts.get(name, b"").decode("utf-8", "replace").strip("\0 \t\r\n")


def _find(texts: Texts, name: str, pattern: str) -> str:
    """The group of a pattern in a text; empty where there is none."""
    match = re.search(pattern, _text(texts, name))
    return match.group(1) if match else ""


def _word(text: str) -> str:
    """The printable characters of the first line."""
    line = "".join(letter for letter in text.strip().split("\n")[0] if letter.isprintable()).strip()
    return line.replace("\N{REPLACEMENT CHARACTER}", "")


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def _numbered(texts: Texts, prefix: str) -> list[dict[str, str]]:
    """Texts by file name of each of the folders PREFIX0, PREFIX1, ... in the order of their numbers."""
    found: dict[int, dict[str, str]] = {}
    for name in texts:
        if match := re.fullmatch(rf"{prefix}([0-9]{{1,6}})/(.+)", name):
            found.setdefault(int(match.group(1)), {})[match.group(2)] = _text(texts, name)
    return [found[number] for number in sorted(found)]


def _cpuinfo(texts: Texts) -> list[dict[str, str]]:
    """A block of /proc/cpuinfo for each core; the lines after the last core belong to it."""
    cores: list[dict[str, str]] = []
    for line in _text(texts, "proc/cpuinfo").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdecimal():
            cores.append({})
        if cores and colon:
            cores[-1][key] = value
    return cores


def _model(texts: Texts) -> str:
    """The board of a device tree, or maker and product of a PC."""
    maker = [_word(_text(texts, f"sys/class/dmi/id/{name}")) for name in ("sys_vendor", "product_name")]
    return _word(_text(texts, "proc/device-tree/model")) or " ".join(filter(None, maker))


def _revision(texts: Texts, cpuinfo: list[dict[str, str]]) -> str:
    if cpuinfo and "Revision" in cpuinfo[-1]:
        return _word(cpuinfo[-1]["Revision"])
    stored = texts.get("proc/device-tree/system/linux,revision", b"")
    return stored.hex().lstrip("0") if len(stored) == 4 else ""


def _cpu(cpuinfo: list[dict[str, str]]) -> str:
    """Names of the kinds of core, by their part first: a 32-bit kernel gives all ARM cores one model name."""
    names = []
    for core in cpuinfo:
        implementer, part = core.get("CPU implementer", ""), core.get("CPU part", "")
        known = CORES.get(part.lower(), "") if implementer.lower() == ARM else ""
        names.append(known or core.get("model name") or (f"implementer {implementer} part {part}" if part else ""))
    return _word(" + ".join(dict.fromkeys(filter(None, names))))


def _meminfo(texts: Texts) -> dict[str, int]:
    """Bytes by name."""
    lines = re.findall(r"^(\w+):\s*([0-9]{1,15}) kB$", _text(texts, "proc/meminfo"), re.MULTILINE)
    return {name: 1024 * int(kilobytes) for name, kilobytes in lines}


def _caches(texts: Texts) -> dict[str, int | None] | None:
    """Bytes of the data caches of the first core; None for an absent level."""
    found: dict[str, int | None] = {"l1d": None, "l2": None, "l3": None}
    for cache in _numbered(texts, "sys/devices/system/cpu/cpu0/cache/index"):
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


def _celsius(texts: Texts) -> float | None:
    """Temperature of the processor, or of the first thermal zone that reports one."""
    zones = []
    for zone in _numbered(texts, "sys/class/thermal/thermal_zone"):
        number, kind = _number(zone.get("temp", "")), zone.get("type", "").lower()
        if number is not None and MIN_CELSIUS <= number / 1000 <= MAX_CELSIUS:
            rank = next((rank for rank, word in enumerate(ZONES) if word in kind), len(ZONES))
            zones.append((rank, number / 1000))
    return min(zones, key=lambda zone: zone[0])[1] if zones else None
