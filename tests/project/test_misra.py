"""Deviations of exported C from MISRA C:2012."""

import re

import pytest

from benchmarks import misra


@pytest.mark.slow
@pytest.mark.needs("cppcheck")
def test_every_broken_rule_is_explained() -> None:
    counts = misra.count()
    assert counts["kernels"] and counts["networks"]
    assert not misra.unexplained(counts), "explain the rule in benchmarks/misra.py, or keep it"
    listed = re.findall(r"^\| ([\d.]+) \|", misra.PAGE.read_text(), re.MULTILINE)
    assert set(listed) == set(misra.DEVIATIONS), "run benchmarks/misra.py --write"
