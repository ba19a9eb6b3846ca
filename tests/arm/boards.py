"""Raspberry Pis to emulate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """What the tools call an instruction set, and what a device of it has.

    Attributes:
        machine: name of Linux, of wheels and of qemu.
        qemu: emulator.
        debian: name of Debian's packages.
        triplet: of the compiler.
        packages: of Debian, in addition to `PACKAGES`.
        wheels: in addition to `WHEELS`.
        engines: that the wheels have, and the native ones.
        getppid: number of that system call.
        cpuinfo: `/proc/cpuinfo` of a core, to fill in features and part.
        reserved_bytes: address space that qemu reserves for the guest.
    """

    machine: str
    qemu: str
    debian: str
    triplet: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    engines: tuple[str, ...]
    getppid: int
    cpuinfo: str
    reserved_bytes: int = 0


AARCH64 = Architecture(
    machine="aarch64",
    qemu="qemu-aarch64",
    debian="arm64",
    triplet="aarch64-linux-gnu",
    packages=(),
    wheels=(
        "ai-edge-litert",
        "backports.strenum",
        "flatbuffers",
        "ml_dtypes",
        "numpy",
        "onnxruntime",
        "protobuf",
        "tqdm",
    ),
    engines=("native", "reference", "onnxruntime", "litert", "tflite-runtime"),
    getppid=173,
    cpuinfo="BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    "CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n",
)
#: No wheels of numpy, onnxruntime and litert exist; Debian has numpy.
ARMV7 = Architecture(
    machine="armv7l",
    qemu="qemu-arm",
    debian="armhf",
    triplet="arm-linux-gnueabihf",
    packages=("libblas3", "libgfortran5", "liblapack3", "python3-numpy", "python3-pkg-resources"),
    wheels=(),
    engines=("native", "reference", "tflite-runtime"),
    getppid=64,
    cpuinfo="model name\t: ARMv7 Processor rev 4 (v7l)\nBogoMIPS\t: 38.40\nFeatures\t: {features}\n"
    "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 4\n",
    reserved_bytes=4 << 30,
)


@dataclass(frozen=True)
class Board:
    """A Raspberry Pi with one of the systems it can run.

    Attributes:
        title: its name, as it gives it itself.
        architecture: of its Linux.
        cpu: its processor.
        part: number of that processor.
        features: instructions that Linux tells of it.
        kernels: of the C library, that it must choose.
        emulated: what qemu emulates if it lacks the processor; the instructions are the same.
    """

    title: str
    architecture: Architecture
    cpu: str
    part: str
    features: str
    kernels: str
    emulated: str = ""

    @property
    def qemu(self) -> list[str]:
        """The emulator and its processor."""
        return [self.architecture.qemu, "-cpu", self.emulated or self.cpu]

    @property
    def cpuinfo(self) -> str:
        """Its `/proc/cpuinfo`: engines choose kernels by it, and crash where it is an x86's."""
        core = self.architecture.cpuinfo.format(features=self.features, part=self.part)
        cores = [f"processor\t: {number}\n{core}" for number in range(4)]
        return "\n".join([*cores, f"Model\t\t: {self.title}\n"])


PI_2, PI_3 = "Raspberry Pi 2 Model B Rev 1.1", "Raspberry Pi 3 Model B Rev 1.2"
PI_4, PI_5 = "Raspberry Pi 4 Model B Rev 1.1", "Raspberry Pi 5 Model B Rev 1.0"
ARMV7_FEATURES = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
ARMV8_FEATURES = "fp asimd evtstrm crc32 cpuid"
ARMV8_2_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
BOARDS = {
    "pi2": Board(PI_2, ARMV7, "cortex-a7", "0xc07", ARMV7_FEATURES, "neon"),
    # qemu-arm has no Cortex-A53: a Cortex-A15 lacks its CRC32 alone
    "pi3-32bit": Board(PI_3, ARMV7, "cortex-a53", "0xd03", f"{ARMV7_FEATURES} crc32", "neon", "cortex-a15"),
    "pi3": Board(PI_3, AARCH64, "cortex-a53", "0xd03", ARMV8_FEATURES, "neon"),
    "pi4": Board(PI_4, AARCH64, "cortex-a72", "0xd08", ARMV8_FEATURES, "neon"),
    "pi5": Board(PI_5, AARCH64, "cortex-a76", "0xd0b", ARMV8_2_FEATURES, "neon_dotprod"),
}
