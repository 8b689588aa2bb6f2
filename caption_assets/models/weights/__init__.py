"""Weights as files: `checkpoints` is which ones and what their configs say, `downloads` is how they get here.

A checkpoint is whole and of one pinned revision, or it is refused. Nothing here loads weights: that is an engine's
work. Which model has which checkpoint is in `models.variants`.
"""
