"""Commands around the labs, each run by a Make target as `python -m tools.NAME`."""
