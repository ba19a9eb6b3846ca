"""The kernels of all networks as a library that several exports share: sen_kernels.h and sen_kernels.c.

Both are the same in every export of a version, so the linker takes those of any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256

from sen_exporters.c.library import closure, regions

#: Regions that are types, which the header defines.
_TYPES = re.compile(r"(\w+_)?types")
#: Functions that networks name: what follows SEN_PRIVATE, up to the body.
_PUBLIC = re.compile(r"^SEN_PRIVATE ([\w *]+\([^)]*\))\n\{", re.MULTILINE)
#: A region that only Python reads.
_TABLE = "kernel_choice"

_HEADER = """\
/* Kernels that networks exported by sen-edge share. Do not edit; export again. */
#ifndef SEN_KERNELS_H
#define SEN_KERNELS_H

#define SEN_KERNELS_ID 0x{id}ul
#define SEN_PER_NEURON
#define SEN_CODES_INPUTS
#define SEN_DELAYS

{types}
/* A network does not link with kernels of another version: they have another name. */
extern const char sen_kernels_{id}[4];

{prototypes}
#endif
"""
_SOURCE = """\
/* Kernels that networks exported by sen-edge share: a program contains this file once, for any number of networks.
 * Link with -Wl,--gc-sections, and kernels that no network names take no flash.
 * SPDX-License-Identifier: Apache-2.0 */
#include "sen_kernels.h"

#if SEN_KERNELS_ID != 0x{id}ul
#error "sen_kernels.h is of another version than sen_kernels.c: export the networks with one version of sen-edge"
#endif

const char sen_kernels_{id}[4] = "c99";

{functions}"""


@cache
def kernels_id() -> str:
    """Eight hexadecimal digits that differ between kernels of different versions."""
    return sha256("".join(_texts().values()).encode()).hexdigest()[:8]


@cache
def shared_kernels() -> Mapping[str, str]:
    """The files by name."""
    types = [text for name, text in _texts().items() if _TYPES.fullmatch(name)]
    functions = [text for name, text in _texts().items() if not _TYPES.fullmatch(name)]
    prototypes = "".join(f"{found};\n" for text in functions for found in _PUBLIC.findall(text))
    public = (_PUBLIC.sub(r"\1\n{", text).replace("SEN_PRIVATE", "static") for text in functions)
    return {
        "sen_kernels.h": _HEADER.format(id=kernels_id(), types="\n".join(types), prototypes=prototypes),
        "sen_kernels.c": _SOURCE.format(id=kernels_id(), functions="\n".join(public)),
    }


def _texts() -> dict[str, str]:
    """All regions that networks need, in an order that compiles."""
    return {name: region.text for name, region in closure(set(regions()) - {_TABLE}).items()}
