"""The command line: arguments, one library call, a table."""
