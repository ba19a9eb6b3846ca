"""`python -m sen_runtime`."""

from sen_runtime.cli import main

if __name__ == "__main__":
    main()
