"""Campaigns against what can go wrong, each a command: `python -m benchmarks.faults.<name> --count N --seed S`.

They print figures, and end with status 1 where something was lost. Short runs of them are tests.
"""
