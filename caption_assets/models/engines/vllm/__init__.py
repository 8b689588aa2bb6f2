"""vLLM in processes of its own, started by the run: on a GPU, spread over several, or on the CPU.

`launch` says how it is started, `engine` starts it and talks to it, `flight` holds what is on its way, `inputs` renders
requests in worker processes, ahead of it, and `loader` is called by vLLM itself, in each of its processes. Everything
works with the oldest and the newest release that pyproject.toml allows. A vLLM that somebody else has started is a
server: that is `openai`.
"""
