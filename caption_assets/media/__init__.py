"""Pure media code: windows, sampling, decoding, previews, mp4.

Here: what is in a video file, what comes out of it as arrays, and what files are made of those. Every limit on what a
file may ask for, and every way in which one cannot be used, has its place here. Not here: worker processes, Dagster,
models, tables, and where in the output a file goes. It can be used alone.
"""
