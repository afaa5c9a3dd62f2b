"""Thin command-line programs: parse, call, exit code. Run as `python -m jobs.<name>`."""
