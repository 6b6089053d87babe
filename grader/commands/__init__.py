"""What each command of the command line does; `grader.cli` only parses. Modules here are imported when their command is run."""
