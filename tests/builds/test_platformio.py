"""PlatformIO packs an exported folder, installs the archive into a project, and builds it.

Its own platforms and build tool are in a registry that CI does not reach: SCons is from PyPI, and a platform of a few
lines calls a compiler.
"""

import json
import tarfile
from pathlib import Path

import pytest

from tests.builds.project import EXPANDED, HEADERS, NAMES, SELF_TESTS, run, write
from tests.support.c_exports import export, small

pytestmark = pytest.mark.needs("pio")

#: Package of PlatformIO's build tool, of the version that this version of PlatformIO requires.
SCONS = {"type": "tool", "name": "tool-scons", "version": "4.41101.0"}
OWNER = {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}
PLATFORM = {
    "platform.json": json.dumps(
        {"name": "compiler", "version": "1.0.0", "title": "", "description": "", "packages": {}}
    ),
    "builder/main.py": """
from SCons.Script import Default, DefaultEnvironment
environment = DefaultEnvironment()
environment.Replace(CC="gcc", AS="gcc", AR="ar", RANLIB="ranlib")
Default(environment.BuildProgram())
""",
}
MAIN = f"{HEADERS}{EXPANDED}int main(void) {{ return {SELF_TESTS}; }}\n"


@pytest.fixture
def pio(tmp_path: Path) -> dict[str, str]:
    """Environment in which PlatformIO finds its build tool."""
    write(
        tmp_path / "core/packages/tool-scons",
        {
            "package.json": json.dumps(SCONS),
            ".piopm": json.dumps({**SCONS, "spec": OWNER}),
            "scons.py": "from SCons.Script import main\nmain()\n",
        },
    )
    return {"PLATFORMIO_CORE_DIR": str(tmp_path / "core"), "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no"}


def test_a_project_that_depends_on_packed_exports(pio: dict[str, str], exports: Path, tmp_path: Path) -> None:
    write(tmp_path / "platform", PLATFORM)
    for name in NAMES:
        run("pio", "pkg", "pack", exports / name, "-o", tmp_path / f"{name}.tar.gz", folder=tmp_path, **pio)
    libraries = "".join(f"  file://{tmp_path}/{name}.tar.gz\n" for name in NAMES)
    settings = f"[env:host]\nplatform = file://{tmp_path}/platform\nbuild_flags = -DFAR_EXPAND\nlib_deps =\n{libraries}"
    project = write(tmp_path / "app", {"platformio.ini": settings, "src/main.c": MAIN})
    run("pio", "run", "-d", project, **pio)
    run(project / ".pio/build/host/program")


def test_an_archive_has_the_files_of_the_export_alone(pio: dict[str, str], tmp_path: Path) -> None:
    folder = export(small("dense"), weights="incbin").write(tmp_path).parent
    exported = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    (folder / "stray.bin").write_bytes(b"of the user")
    run("pio", "pkg", "pack", folder, "-o", tmp_path / "net.tar.gz", folder=tmp_path, **pio)
    with tarfile.open(tmp_path / "net.tar.gz") as archive:
        assert set(archive.getnames()) - {".piopm"} == exported
