"""`python -m sen_edge`."""

from sen_edge.cli.main import main

main()
