"""Names of C exports: identifiers, rejected names, builds."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sen_exporters.base import ExportError
from sen_exporters.c.exporter import RESERVED, COptions, identifier
from tests.support.c_exports import EXPORTER, compile_and_run, export, small

COMPILERS = [name for name in ("gcc", "clang", "arm-none-eabi-gcc") if shutil.which(name)]
#: Of C99, and of POSIX.
HEADERS = """
assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef stdint
stdio stdlib string tgmath time wchar wctype aio cpio dirent dlfcn fcntl fmtmsg fnmatch ftw glob grp iconv langinfo
libgen monetary mqueue ndbm netdb nl_types poll pthread pwd regex sched search semaphore spawn strings stropts syslog
tar termios trace ulimit unistd utime utmpx wordexp alloca byteswap endian features malloc
"""


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mnist-mlp", "mnist_mlp"), ("3 nets", "net_3_nets"), ("größe", "gr_e"), ("a.b--c", "a_b_c"), ("_x_", "x")],
)
def test_names_become_identifiers(stem: str, name: str) -> None:
    assert identifier(stem) == name
    assert EXPORTER.main_file(COptions(name=stem)) == f"{name}/{name}.c"


@pytest.mark.parametrize(
    "stem",
    [
        "int",
        "class",
        "math",
        "String",
        "sen",
        "sen-net",
        "日本",
        "--",
        "main",
        "test",
        "m",
        "features",
        "Endian",
        "alloca",
        "malloc",
        "sched",
        "unistd",
        "strings",
        "edit_cache",
        "rebuild-cache",
        "preinstall",
        "package",
        "aux",
    ],
)
def test_names_that_c_has_no_use_for(stem: str) -> None:
    with pytest.raises(ExportError, match=re.escape(repr(stem))) as raised:
        export(small(), stem)
    assert "--name" in raised.value.hint and raised.value.exit_code == 2


@pytest.mark.parametrize("compiler", COMPILERS)
def test_names_of_headers_that_the_libraries_include(compiler: str, tmp_path: Path) -> None:
    """The folder is in the include path, where `features.h` would be found before that of libc."""
    found = subprocess.run([compiler, "-E", "-v", "-x", "c", "-"], input="", capture_output=True, text=True).stderr
    searched = found.split("search starts here:")[-1].split("End of search list")[0].split()
    folders = [Path(folder).resolve() for folder in searched]
    names = [name for name in HEADERS.split() if any((folder / f"{name}.h").exists() for folder in folders)]
    if compiler == "arm-none-eabi-gcc":  # newlib has some that only stop the compiler
        names = [name for name in names if name not in ("dirent", "termios")]
    code = "".join(f"#include <{name}.h>\n" for name in names)
    command = [compiler, "-D_GNU_SOURCE", "-M", "-x", "c", "-"]
    rule = subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout
    included = {Path(path) for path in re.findall(r"\S+\.h\b", rule)}
    stems = {path.stem for path in included if path.parent.resolve() in folders}
    assert len(stems) > 30
    assert {stem for stem in stems if stem.isidentifier() and stem == stem.strip("_")} <= RESERVED


CMAKE = """
cmake_minimum_required(VERSION 3.13)
project(names C)
include(CTest)
include(CPack)
install(FILES CMakeLists.txt DESTINATION share)
add_custom_target(ours)
"""


@pytest.mark.needs("cmake", "make")
def test_names_of_targets_that_cmake_makes(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    subprocess.run(["cmake", "-G", "Unix Makefiles", "-B", "b"], cwd=tmp_path, check=True, capture_output=True)
    listed = subprocess.run(
        ["make", "-C", "b", "help"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    targets = set(re.findall(r"^\.\.\. (\w+)", listed, re.MULTILINE)) - {"ours"}
    assert {"edit_cache", "rebuild_cache", "package", "install", "test"} <= targets
    assert {target.lower() for target in targets if not target.startswith(("Continuous", "Nightly", "Exp"))} <= RESERVED
    assert {"preinstall", "m", "c"} <= RESERVED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layer0", "dense"),
        ("layer0_term0", "nested_sum"),
        ("layer0_term0", "sum"),
        ("network", "dense"),
        ("run", "dense"),
    ],
)
def test_names_that_the_code_uses_itself(name: str, kind: str, tmp_path: Path) -> None:
    for weights in ("array", "incbin"):
        folder = export(small(kind, spiking=True), name, weights=weights).write(tmp_path / weights).parent
        sources = [*folder.glob("*.c"), *folder.glob("*.S")]
        assert compile_and_run(tmp_path, *sources, flags=("-I", folder)) == 0


def test_zephyr_has_options_libraries_and_modules_of_the_same_name() -> None:
    files = export(small("coordinates"), "log").files
    text = "".join(files[f"log/zephyr/{name}"].decode() for name in ("module.yml", "CMakeLists.txt", "Kconfig"))
    assert not re.search(r"CONFIG_LOG|^config LOG|depends on LOG|named\(log|^name: log", text, re.MULTILINE)
    assert "CONFIG_SEN_LOG" in text and "zephyr_library_named(sen_log)" in text and "name: sen_log" in text
