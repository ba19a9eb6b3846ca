"""What Zephyr does with modules before it builds: `configure.py PRJ_CONF OUTPUT MODULE...`.

Reads each `zephyr/module.yml`, evaluates prj.conf with the Kconfig of all modules, writes OUTPUT.h and OUTPUT.cmake.
Exit code 1: prj.conf names a symbol that does not exist, or whose dependencies are not met.
"""

import sys
from pathlib import Path

import kconfiglib
import yaml


def main() -> None:
    prj_conf, output, *modules = map(Path, sys.argv[1:])
    found = {}
    for module in modules:
        described = yaml.safe_load((module / "zephyr/module.yml").read_text())
        build = described["build"]
        assert set(described) <= {"name", "build"} and set(build) == {"cmake", "kconfig"}
        assert described["name"] not in found
        found[described["name"]] = (module / build["cmake"], module / build["kconfig"])
    top = output.with_suffix(".kconfig")
    libc = "config REQUIRES_FULL_LIBC\n    bool\n"  # as in Zephyr's own
    top.write_text(libc + "".join(f'source "{kconfig}"\n' for _, kconfig in found.values()))
    kconfig = kconfiglib.Kconfig(str(top), warn_to_stderr=False)
    kconfig.warn_assign_undef = True
    kconfig.load_config(str(prj_conf))
    symbols = kconfig.unique_defined_syms
    unmet = [
        f"{each.name} has an unmet dependency" for each in symbols if each.user_value not in (None, each.tri_value)
    ]
    if wrong := kconfig.warnings + unmet:
        sys.exit("\n".join(wrong))
    kconfig.write_autoconf(str(output.with_suffix(".h")))
    lines = [f"set(module_names {' '.join(found)})"]
    lines += [f"set(module_{name} {cmake})" for name, (cmake, _) in found.items()]
    lines += [f"set(CONFIG_{symbol.name} {symbol.str_value})" for symbol in symbols]
    output.with_suffix(".cmake").write_text("\n".join(lines) + "\n")


main()
