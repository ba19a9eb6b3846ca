"""The command line: one module per subcommand, each a thin door to a function of the toolkit."""
