"""Supported versions of Python and packages: pinned environments, in which a part of the tests runs."""
