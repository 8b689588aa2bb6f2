"""Campaigns against what can go wrong, each a command: `python -m benchmarks.faults.<name>`, whose `--help` tells more.

A short run of each is a test. They print figures, and end with status 1 where something was lost.
"""
