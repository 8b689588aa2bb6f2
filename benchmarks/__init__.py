"""Figures: how fast, how much memory, how right. Each module is a command, `python -m benchmarks.<name> --help`; what
several of them use is in `parts`. Nothing imports this folder, and it may import everything else.
"""
