"""Sweep, search and compare token reduction settings of video LLMs: accuracy against FLOPs, with error bars."""

import sys

from prunesweep.targets import FormerModules

sys.meta_path.append(FormerModules())  # the last one: it finds only what is nowhere else
