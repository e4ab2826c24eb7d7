"""Maintainers' scripts: `python -m prunesweep.dev.NAME`."""
