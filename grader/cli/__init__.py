"""The command line: `main` parses, each command is a module that is imported when it is run."""
