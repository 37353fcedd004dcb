"""``report.html``: one self-contained page for each run, made from the run's files, and the same for trackers."""
