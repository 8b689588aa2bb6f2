"""Several engines for one model, each in a process of its own: one for each GPU.

`pool` is the engine that they are together, `process` one of them as the pool sees it, `main` what such a process runs.
A process of its own, since whoever feeds vLLM moves some fifty megabytes a window, and one process does that for about
two GPUs. Windows go from the worker that has prepared them to the engine's process in memory that all map.
"""
