"""Static cycle estimates of the inner loops of the kernels for NEON, by llvm-mca.

    python benchmarks/arm_cycles.py [--write]

The C library is cross-built, and the loop of each kernel with the most multiply-adds is simulated for a Cortex-A53 and
a Cortex-A72, with all data in the first cache. `--write` replaces the table in docs/reference/arm.md. Exit code 1: a
tool is missing, or a kernel has no such loop.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pages import write_section

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests is not an installed package

from tests.arm.boards import AARCH64  # noqa: E402
from tests.arm.root import NotReadyError, build_runtime, check_tools, run  # noqa: E402

PAGE = ROOT / "docs/reference/arm.md"
MCA = "llvm-mca-14"
#: LLVM 14 has no model of a Cortex-A76 or Neoverse N1: it takes the Cortex-A57's, as for the Cortex-A72.
CPUS = ("cortex-a53", "cortex-a72")
#: Multiply-adds of an instruction, by its pattern.
MACS = (
    (r"fmla\s+v\d+\.4s", 4),
    (r"fml[as]\s+v\d+\.2s", 2),
    (r"[su]m(lal|ull)2?\s+v\d+\.8h", 8),
    (r"[su]m(lal|ull)2?\s+v\d+\.4s", 4),
    (r"[su]dot\s+v\d+\.4s", 16),
)
#: Kernels by function.
KERNELS = {
    "dense float32, panels": "sen_panels_neon",
    "int8, quads": "sen_quads_neon",
    "int8, quads with dot products": "sen_quads_neon_dotprod",
    "16x1 float32, by source": "sen_source_16x1_f32_neon",
    "16x1 int8, by source": "sen_source_16x1_int8_neon",
    "LIF, constant current": "sen_integrate_constant_neon",
}


@dataclass(frozen=True)
class Loop:
    """Instructions of a loop, and its multiply-adds per iteration."""

    instructions: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class Estimate:
    """Cycles per iteration, and the unit with the most of them."""

    cycles: float
    unit: str


def loop_of(library: Path, function: str) -> Loop:
    """Return the innermost loop of a function with the most multiply-adds.

    Raises:
        NotReadyError: it has none.
    """
    listing = run([f"{AARCH64.triplet}-objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", str(library)])
    lines = re.findall(r"^ +([0-9a-f]+):\t(.*?)(?:\s+//.*)?$", listing, re.MULTILINE)
    index = {address: number for number, (address, _) in enumerate(lines)}
    target = re.compile(r"\b([0-9a-f]+) <[^>]+>$")
    branches = [
        (index.get(found[1], len(lines)), at) for at, (_, text) in enumerate(lines) if (found := target.search(text))
    ]
    loops = [(start, end) for start, end in branches if start <= end]
    inner = [
        (start, end)
        for start, end in loops
        if not any(start <= other[0] and other[1] <= end and other != (start, end) for other in loops)
    ]
    found_loops = []
    for start, end in inner:
        texts = [target.sub("0", text).strip() for _, text in lines[start : end + 1]]
        found_loops.append(Loop(tuple(texts), sum(macs_of(text) for text in texts)))
    best = max(found_loops, key=lambda loop: loop.macs, default=Loop((), 0))
    if not best.macs:
        raise NotReadyError(f"{function} has no loop with multiply-adds")
    return best


def macs_of(instruction: str) -> int:
    """Multiply-adds of an instruction."""
    return next((macs for pattern, macs in MACS if re.match(pattern, instruction)), 0)


def estimate(loop: Loop, cpu: str) -> Estimate:
    """Simulate a loop."""
    command = [MCA, f"-mtriple={AARCH64.triplet}", f"-mcpu={cpu}", "-mattr=+dotprod", "-json"]
    done = subprocess.run(command, input="\n".join(loop.instructions), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReadyError(f"{MCA}: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    region, units = found["CodeRegions"][0], found["TargetInfo"]["Resources"]
    summary, total = region["SummaryView"], len(region["Instructions"])
    pressure = {
        units[each["ResourceIndex"]]: each["ResourceUsage"]
        for each in region["ResourcePressureView"]["ResourcePressureInfo"]
        if each["InstructionIndex"] == total
    }
    unit = max(pressure, key=lambda name: pressure[name])
    return Estimate(summary["TotalCycles"] / summary["Iterations"], unit.rstrip("\0\1\2.") + f" {pressure[unit]:.3g}")


def main(arguments: list[str]) -> int:
    """Estimate, print, and write on request."""
    check_tools(AARCH64)
    if shutil.which(MCA) is None:
        raise NotReadyError(f"{MCA} is missing; as root: apt-get install -y --no-install-recommends llvm")
    library = build_runtime(AARCH64) / "sen_runtime/c/libsen.so"
    titles = " | ".join(f"{cpu}: cycles | MACs per cycle | busiest unit" for cpu in CPUS)
    lines = [f"| loop | instructions | MACs | {titles} |", f"| --- | ---: | ---: |{' ---: | ---: | --- |' * len(CPUS)}"]
    for title, function in KERNELS.items():
        loop = loop_of(library, function)
        cells = [f"{title}", f"{len(loop.instructions)}", f"{loop.macs}"]
        for cpu in CPUS:
            found = estimate(loop, cpu)
            cells += [f"{found.cycles:.1f}", f"{loop.macs / found.cycles:.2f}", found.unit]
        lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines))
    if arguments == ["--write"]:
        write_section(PAGE, lines, "cycles")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NotReadyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
