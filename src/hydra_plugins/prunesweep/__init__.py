"""Launcher and sweepers of PruneSweep; Hydra finds plugins in this namespace only.

Hydra executes these modules without registering them in sys.modules, and a dataclass with postponed annotations fails
there: none of them may use `from __future__ import annotations`.
"""
