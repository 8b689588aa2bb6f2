"""Models: which there are, what they are asked, where their weights are, what runs them, and how one is chosen.

Numbers and names that differ between models stand in `families` and `variants`, and nowhere else. Frames come as NumPy
arrays in the size that `requests.frame_size` gives; decoding them is the work of `media`, captions of shards that of
`steps`. Nothing here knows Dagster, tables or clips. Worker processes and vLLM's own load single modules of this
package, so that no `__init__` in it imports anything.
"""
