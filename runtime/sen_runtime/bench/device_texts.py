"""Parse the text of kernel files and commands: what machine this is, and its state.

The texts come from this machine (`device.py`), or from a file that `sen_bench` wrote on another one. Anything missing
or malformed is `UNAVAILABLE`: no text raises an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Content by the path of a file without its leading slash, or by command line.
Texts = Mapping[str, bytes]

UNAVAILABLE = "unavailable"

#: Patterns of the files that `facts` and `state` parse.
FACT_FILES = (
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
STATE_FILES = (
    "proc/loadavg",
    "proc/meminfo",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/thermal_zone*/type",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_*_freq",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_*_freq",
)
#: The commands that they parse.
MACHINE = "uname -m"
THROTTLED, ARM_CLOCK = "vcgencmd get_throttled", "vcgencmd measure_clock arm"

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
#: (level, type) of a data cache -> name.
CACHES = {("1", "Data"): "l1d", ("1", "Unified"): "l1d", ("2", "Unified"): "l2", ("3", "Unified"): "l3"}
#: Thermal zones of the processor, best first; any other zone is better than none.
ZONES = ("cpu", "x86_pkg", "soc")
#: Plausible temperatures of a processor, degrees Celsius.
MIN_CELSIUS, MAX_CELSIUS = -60.0, 200.0


def facts(texts: Texts) -> dict[str, Any]:
    """Return the constant facts of the machine: board, processor, system, and caches."""
    cpuinfo = _cpuinfo(texts)
    return {
        "model": _model(texts),
        "revision": _revision(texts, cpuinfo),
        "cpu": _cpu(cpuinfo),
        "architecture": _word(_text(texts, MACHINE)),
        "userland_bits": {b"\x7fELF\x01": 32, b"\x7fELF\x02": 64}.get(texts.get("proc/self/exe", b"")[:5], UNAVAILABLE),
        "kernel": _word(_text(texts, "proc/sys/kernel/osrelease")),
        "os": _os(texts),
        "cpus": len(cpuinfo) or UNAVAILABLE,
        "ram_bytes": _meminfo(texts).get("MemTotal", UNAVAILABLE),
        "caches": _caches(texts),
    }


def state(texts: Texts) -> dict[str, Any]:
    """Governor, clocks (MHz), temperature, throttling, load of the last minute, swap.

    Lists have one value for each core with its own clock, in the order of the cores.
    """
    memory = _meminfo(texts)
    swap = memory.get("SwapTotal"), memory.get("SwapFree")
    governors = [_word(_text(texts, f"{folder}/scaling_governor")) for folder in _cpufreq(texts)]
    celsius = _celsius(texts)
    arm_clock_hz = int(_find(texts, ARM_CLOCK, r"frequency\([0-9]+\)=([0-9]{1,18})$") or 0)
    throttled = _find(texts, THROTTLED, r"throttled=(0x[0-9a-fA-F]{1,8})$")
    load = _find(texts, "proc/loadavg", r"^([0-9]{1,6}\.[0-9]+)")
    return {
        "governor": [name for name in governors if name != UNAVAILABLE] or UNAVAILABLE,
        "mhz": _clocks(texts, "cur_freq") or UNAVAILABLE,
        "min_mhz": _clocks(texts, "min_freq") or UNAVAILABLE,
        "max_mhz": _clocks(texts, "max_freq") or UNAVAILABLE,
        "arm_clock_mhz": arm_clock_hz / 1e6 if arm_clock_hz else UNAVAILABLE,
        "celsius": UNAVAILABLE if celsius is None else celsius,
        "throttled": throttled.lower() or UNAVAILABLE,
        "load": float(load) if load else UNAVAILABLE,
        "swap_used_bytes": UNAVAILABLE if swap[0] is None or swap[1] is None else max(0, swap[0] - swap[1]),
    }


def _text(texts: Texts, name: str) -> str:
    """A text without NUL and white space at its ends; empty where there is none."""
    return texts.get(name, b"").decode("utf-8", "replace").strip("\0 \t\r\n")


def _find(texts: Texts, name: str, pattern: str) -> str:
    """The group of a pattern in a text; empty where there is none."""
    match = re.search(pattern, _text(texts, name))
    return match.group(1) if match else ""


def _word(text: str) -> str:
    """The printable characters of the first line, or `UNAVAILABLE`."""
    line = "".join(letter for letter in text.strip().split("\n")[0] if letter.isprintable()).strip()
    return line.replace("\N{REPLACEMENT CHARACTER}", "") or UNAVAILABLE


def _number(text: str) -> int | None:
    match = re.fullmatch(r"-?[0-9]{1,18}", text)
    return int(match.group()) if match else None


def _folders(texts: Texts, pattern: str) -> list[str]:
    """Folders with files in `texts`, in the order of the number that `pattern` captures."""
    found = {match.group(): int(match.group(1)) for name in texts if (match := re.match(pattern, name))}
    return sorted(found, key=lambda folder: found[folder])


def _cpuinfo(texts: Texts) -> list[dict[str, str]]:
    """A block of /proc/cpuinfo for each core; the lines after the last core belong to it."""
    cores: list[dict[str, str]] = []
    for line in _text(texts, "proc/cpuinfo").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            continue
        if key == "processor" and value.isdecimal():
            cores.append({})
        if cores:
            cores[-1][key] = value
    return cores


def _model(texts: Texts) -> str:
    board, *maker = (
        _word(_text(texts, name))
        for name in ("proc/device-tree/model", "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name")
    )
    names = maker if board == UNAVAILABLE else [board]
    return " ".join(name for name in names if name != UNAVAILABLE) or UNAVAILABLE


def _revision(texts: Texts, cpuinfo: list[dict[str, str]]) -> str:
    if cpuinfo and "Revision" in cpuinfo[-1]:
        return _word(cpuinfo[-1]["Revision"])
    stored = texts.get("proc/device-tree/system/linux,revision", b"")
    return stored.hex().lstrip("0") or UNAVAILABLE if len(stored) == 4 else UNAVAILABLE


def _cpu(cpuinfo: list[dict[str, str]]) -> str:
    """Names of the kinds of core, by their part first: a 32-bit kernel gives all ARM cores one model name."""
    names = []
    for core in cpuinfo:
        implementer, part = core.get("CPU implementer", ""), core.get("CPU part", "")
        other = core.get("model name") or (f"implementer {implementer} part {part}" if part else "")
        names.append(CORES.get((implementer.lower(), part.lower()), other))
    return _word(" + ".join(dict.fromkeys(name for name in names if name)))


def _os(texts: Texts) -> str:
    pattern = r"""(?m)^PRETTY_NAME=["']?(.*?)["']?$"""
    return _word(_find(texts, "etc/os-release", pattern) or _find(texts, "usr/lib/os-release", pattern))


def _meminfo(texts: Texts) -> dict[str, int]:
    """Bytes by name."""
    lines = re.findall(r"^(\w+):\s*([0-9]{1,15}) kB$", _text(texts, "proc/meminfo"), re.MULTILINE)
    return {name: 1024 * int(kilobytes) for name, kilobytes in lines}


def _caches(texts: Texts) -> dict[str, int | None] | str:
    """Bytes of the data caches of the first core; None for an absent level."""
    found: dict[str, int | None] = {"l1d": None, "l2": None, "l3": None}
    for folder in _folders(texts, r"sys/devices/system/cpu/cpu0/cache/index([0-9]{1,4})(?=/)"):
        size = re.fullmatch(r"([0-9]{1,12})([KMG]?)", _text(texts, f"{folder}/size"))
        name = CACHES.get((_text(texts, f"{folder}/level"), _text(texts, f"{folder}/type")))
        if size and name:
            found[name] = int(size.group(1)) << {"": 0, "K": 10, "M": 20, "G": 30}[size.group(2)]
    return found if any(found.values()) else UNAVAILABLE


def _cpufreq(texts: Texts) -> list[str]:
    return _folders(texts, r"sys/devices/system/cpu/cpu([0-9]{1,6})/cpufreq(?=/)")


def _clocks(texts: Texts, name: str) -> list[float]:
    """MHz of each core, from the first file that holds a clock (kHz)."""
    clocks = []
    for folder in _cpufreq(texts):
        numbers = (_number(_text(texts, f"{folder}/{kind}_{name}")) for kind in ("scaling", "cpuinfo"))
        khz = next((number for number in numbers if number is not None and number > 0), None)
        if khz is not None:
            clocks.append(khz / 1000)
    return clocks


def _celsius(texts: Texts) -> float | None:
    """Temperature of the processor, or of the first thermal zone that reports one."""
    zones = []
    for folder in _folders(texts, r"sys/class/thermal/thermal_zone([0-9]{1,6})(?=/)"):
        number = _number(_text(texts, f"{folder}/temp"))
        if number is not None and MIN_CELSIUS <= number / 1000 <= MAX_CELSIUS:
            kind = _text(texts, f"{folder}/type").lower()
            rank = next((rank for rank, word in enumerate(ZONES) if word in kind), len(ZONES))
            zones.append((rank, number / 1000))
    return min(zones, key=lambda zone: zone[0])[1] if zones else None
