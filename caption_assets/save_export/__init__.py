"""The Save & Export layout of NeMo Curator, as one rendering of the tables.

Here: where its files lie, what they hold, and how a shard's tables are rendered into them beside what other tools have
written. Not here: the tables themselves (`store`), and other renderings of them, which get rooms of their own.
"""
