"""Campaigns against what can go wrong: each is a command, `python -m benchmarks.faults.<name> --count N --seed S`, whose
short run is a test. They print figures, and end with status 1 where something was lost."""
