"""`python -m sen_runtime`."""

import sys

from sen_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
