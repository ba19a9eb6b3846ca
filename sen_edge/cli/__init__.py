"""Command line: one module per subcommand, which parses options and prints results."""
