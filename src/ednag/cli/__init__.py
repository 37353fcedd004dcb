"""The command line: verbs, run directories, and what is printed."""
