"""Search: the space and its constraints, the Optuna study, costs known beforehand.  Hydra's side is the sweeper plugin.

`space` and `constraints` read what a user writes, `study` keeps the proposals in Optuna, `workers` tells the living from
the dead, `bounds` knows costs before anything runs, `loop` puts them together.
"""
