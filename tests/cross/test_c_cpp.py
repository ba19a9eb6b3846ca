"""NAME.hpp in C++ compilers of microcontrollers, which have no standard library."""

import subprocess
from pathlib import Path

import pytest

from tests.cross import forms, harness
from tests.cross.harness import TARGETS

CPP = ("-std=c++11", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
MAIN = """\
#include "net.hpp"

static net_network network;
static net_arena arena;
static float x[NET_INPUTS], y[NET_OUTPUTS];

int main()
{
    uint32_t index, sizes[2];
    int is_wrong = 0;
    for (index = 0; index < NET_INPUTS; index++)
        x[index] = 0.1f * static_cast<float>(index);
    net_network::init();
    is_wrong |= network.run(x) != NET_OK || net_run(&arena, x, y) != NET_OK;
    for (index = 0; index < NET_OUTPUTS; index++)
        is_wrong |= network[index] < y[index] || network[index] > y[index] || network[network.argmax()] < y[index];
    is_wrong |= network.step(x) != NET_OK;
    network.reset();
    is_wrong |= network.layer_output(0, sizes[0])[0] > 0 || !net_layer_output(&arena, 0, &sizes[1]);
    is_wrong |= sizes[0] != sizes[1];
    return is_wrong;
}
"""


@pytest.mark.needs("arm-none-eabi-g++", "avr-g++")
def test_the_class_on_bare_metal(tmp_path: Path) -> None:
    target = TARGETS["cortex-m4"]
    if lacking := harness.missing(target):
        pytest.skip(f"{target.name} needs {', '.join(lacking)}")
    folder = forms.write(forms.every_form()["spiking"], "net", tmp_path)
    main, built = tmp_path / "main.cpp", tmp_path / "main.o"
    main.write_text(MAIN)
    flags = [flag for flag in target.flags if not flag.startswith("--specs")]
    command = ["arm-none-eabi-g++", *CPP, *flags, "-O2", f"-I{folder}", "-c", main, "-o", built]
    subprocess.run(command, check=True)
    objects = harness.build_objects(target, [folder / "net.c"], tmp_path / "objects", includes=[folder])
    assert harness.run(target, harness.build(target, [*objects, built], tmp_path / "program")).code == 0
    subprocess.run(["avr-g++", *CPP, "-mmcu=atmega2560", f"-I{folder}", "-fsyntax-only", main], check=True)
