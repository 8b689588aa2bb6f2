"""Campaigns against faults: what happens, thousands of times over, where something breaks. Each module is one, with the
faults it makes and what must hold; `python -m benchmarks.faults.<name> --help` tells more. Short runs are tests.
"""
