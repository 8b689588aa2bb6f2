"""Campaigns against what can go wrong, each a command: `python -m benchmarks.faults.<name>`, whose `--help` tells more.

Short runs of those that take seconds are tests. They print figures, and end with status 1 where something was lost.
"""
