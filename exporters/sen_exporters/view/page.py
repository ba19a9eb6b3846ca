"""Templates and scripts of pages with the view."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

VIEW_SCRIPTS = ("viewer_drawing.js", "viewer_controls.js")


@cache
def environment(package: str) -> Environment:
    """Environment of the templates of `package` and of the view, which escapes all values."""
    loader = ChoiceLoader([PackageLoader(package), PackageLoader(__package__)])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def join_scripts(names: Sequence[str], package: str = __package__) -> str:
    """Join scripts of `package` and of the view."""
    return "\n".join(environment(package).get_template(name).render() for name in names)


def hash_source(script: str) -> str:
    """Source of an inline script for `script-src` of a Content Security Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
