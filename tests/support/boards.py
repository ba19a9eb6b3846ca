"""Trees of files as Raspberry Pis and a PC show them, and what `vcgencmd` and `uname` answer there.

Composed from the documentation of the kernel and of the boards, not recorded on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

ELF32, ELF64 = b"\x7fELF\x01", b"\x7fELF\x02"
RASPBERRY_PI_OS_64 = (
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
)
RASPBERRY_PI_OS_32 = RASPBERRY_PI_OS_64.replace("Debian GNU", "Raspbian GNU").replace(
    "=debian", "=raspbian\nID_LIKE=debian"
)


@dataclass(frozen=True)
class Board:
    """Contents of files by their path below the root, and answers by command line."""

    files: dict[str, bytes | str] = field(default_factory=dict)
    answers: dict[tuple[str, ...], str] = field(default_factory=dict)

    def run(self, command: Sequence[str]) -> str | None:
        return self.answers.get(tuple(command))

    def write(self, root: Path) -> Path:
        for name, content in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    def but(self, files: dict[str, bytes | str] | None = None, **answers: str) -> "Board":
        """The same with other files, and other answers of vcgencmd by their first word."""
        keys = {"measure_clock": ("vcgencmd", "measure_clock", "arm"), "get_throttled": ("vcgencmd", "get_throttled")}
        changed = {keys[name]: answer for name, answer in answers.items()}
        return replace(self, files={**self.files, **(files or {})}, answers={**self.answers, **changed})


def _arm_cpuinfo(part: str, revision: int, hardware: str, cores: int = 4) -> str:
    core = (
        "processor\t: {}\nBogoMIPS\t: 38.40\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
    )
    return "".join(core.format(index) for index in range(cores)) + hardware


def _clocks(khz: int, low: int, high: int, governor: str, cores: int = 4) -> dict[str, bytes | str]:
    names = {"scaling_cur_freq": khz, "scaling_min_freq": low, "scaling_max_freq": high,
             "cpuinfo_min_freq": low, "cpuinfo_max_freq": high, "scaling_governor": governor}  # fmt: skip
    return {
        f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": f"{value}\n"
        for core in range(cores)
        for name, value in names.items()
    }


def _caches(*caches: tuple[int, str, str]) -> dict[str, bytes | str]:
    return {
        f"sys/devices/system/cpu/cpu0/cache/index{index}/{name}": f"{value}\n"
        for index, cache in enumerate(caches)
        for name, value in zip(("level", "type", "size"), cache, strict=True)
    }


def _pi(
    model: str, revision: str, cpuinfo: str, clocks: tuple[int, int, int], kib: tuple[int, int, int],
    millidegrees: int, caches: Sequence[tuple[int, str, str]], bits: int = 64, kernel: str = "6.6.31+rpt-rpi-v8",
) -> Board:  # fmt: skip
    """A board with the governor of Raspberry Pi OS; `kib` is RAM, swap, and free swap."""
    ram, swap, free = kib
    files: dict[str, bytes | str] = {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/system/linux,revision": bytes.fromhex(revision.zfill(8)),
        "proc/cpuinfo": cpuinfo,
        "proc/meminfo": f"MemTotal:       {ram} kB\nMemFree:          100000 kB\n"
        f"SwapTotal:        {swap} kB\nSwapFree:         {free} kB\nHugePages_Total:       0\n",
        "proc/loadavg": "0.31 0.12 0.05 1/153 1042\n",
        "proc/sys/kernel/osrelease": f"{kernel}\n",
        "proc/self/exe": (ELF64 if bits == 64 else ELF32) + b"\1\1\0",
        "etc/os-release": RASPBERRY_PI_OS_64 if bits == 64 else RASPBERRY_PI_OS_32,
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": f"{millidegrees}\n",
        **_clocks(*clocks, governor="ondemand"),
        **_caches(*caches),
    }
    answers = {
        ("uname", "-m"): "aarch64\n",
        ("vcgencmd", "measure_clock", "arm"): f"frequency(0)={clocks[2] * 1000 + 404}\n",
        ("vcgencmd", "get_throttled"): "throttled=0x0\n",
    }
    return Board(files, answers)


def pi_zero_2() -> Board:
    hardware = "Revision\t: 902120\nSerial\t\t: 00000000deadbeef\nModel\t\t: Raspberry Pi Zero 2 W Rev 1.0\n"
    return _pi(
        "Raspberry Pi Zero 2 W Rev 1.0", "902120", _arm_cpuinfo("0xd03", 4, hardware), (600000, 600000, 1000000),
        (436980, 102396, 61436), 44008, [(1, "Data", "32K"), (1, "Instruction", "32K"), (2, "Unified", "512K")],
    )  # fmt: skip


def pi_3() -> Board:
    """32-bit Raspberry Pi OS, which starts a 64-bit kernel; a kernel whose device tree says nothing of caches."""
    hardware = "Hardware\t: BCM2835\nRevision\t: a02082\nModel\t\t: Raspberry Pi 3 Model B Rev 1.2\n"
    return _pi(
        "Raspberry Pi 3 Model B Rev 1.2", "a02082", _arm_cpuinfo("0xd03", 4, hardware), (1200000, 600000, 1200000),
        (926320, 102396, 102396), 55844, [], bits=32, kernel="6.1.21-v8+",
    )  # fmt: skip


def pi_4() -> Board:
    hardware = "Hardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
    return _pi(
        "Raspberry Pi 4 Model B Rev 1.4", "c03114", _arm_cpuinfo("0xd08", 3, hardware), (1800000, 600000, 1800000),
        (3884328, 102396, 102396), 48312, [(1, "Data", "32K"), (1, "Instruction", "48K"), (2, "Unified", "1024K")],
    )  # fmt: skip


def pi_5() -> Board:
    """Its kernel says nothing of the revision in cpuinfo; there is no swap."""
    return _pi(
        "Raspberry Pi 5 Model B Rev 1.0", "d04170", _arm_cpuinfo("0xd0b", 1, ""), (2400000, 1500000, 2400000),
        (8245232, 0, 0), 51800,
        [(1, "Data", "64K"), (1, "Instruction", "64K"), (2, "Unified", "512K"), (3, "Unified", "2048K")],
        kernel="6.6.31+rpt-rpi-2712",
    )  # fmt: skip


def plain_pc() -> Board:
    """Eight threads with clocks of their own, of which one is busy."""
    name = "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz"
    core = "processor\t: {}\nvendor_id\t: GenuineIntel\nmodel name\t: " + name + "\ncpu MHz\t\t: 800.025\n\n"
    caches = [(1, "Data", "32K"), (1, "Instruction", "32K"), (2, "Unified", "256K"), (3, "Unified", "8192K")]
    files: dict[str, bytes | str] = {
        "sys/class/dmi/id/sys_vendor": "Dell Inc.\n",
        "sys/class/dmi/id/product_name": "Latitude 7490\n",
        "proc/cpuinfo": "".join(core.format(index) for index in range(8)),
        "proc/meminfo": "MemTotal:       16243124 kB\nSwapTotal:       2097148 kB\nSwapFree:        2097148 kB\n",
        "proc/loadavg": "1.02 0.80 0.60 2/1200 4242\n",
        "proc/sys/kernel/osrelease": "6.1.0-21-amd64\n",
        "proc/self/exe": ELF64,
        "etc/os-release": RASPBERRY_PI_OS_64,
        "sys/class/thermal/thermal_zone0/type": "acpitz\n",
        "sys/class/thermal/thermal_zone0/temp": "25000\n",
        "sys/class/thermal/thermal_zone10/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone10/temp": "62000\n",
        **_clocks(800000, 400000, 4200000, "powersave", cores=8),
        "sys/devices/system/cpu/cpu5/cpufreq/scaling_cur_freq": "3902417\n",
        **_caches(*caches),
    }
    return Board(files, {("uname", "-m"): "x86_64\n"})


def virtual_machine() -> Board:
    """A container without /sys, and with a minimal /proc."""
    return Board()


BOARDS: dict[str, Callable[[], Board]] = {
    "zero-2": pi_zero_2, "3": pi_3, "4": pi_4, "5": pi_5, "pc": plain_pc, "vm": virtual_machine,
}  # fmt: skip
