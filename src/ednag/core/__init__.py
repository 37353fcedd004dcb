"""What everything rests on: random streams, the archive, files, processes."""
