"""Commands used by tests."""

import os
import shutil


def find_command(name: str) -> str | None:
    """Path of a command; daemons such as sshd are outside of a user's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
