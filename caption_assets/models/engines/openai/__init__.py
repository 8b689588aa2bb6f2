"""A model that an OpenAI-compatible server runs, here or elsewhere: `vllm serve`, or another one.

`server` finds it and asks until it answers, `inputs` makes the JSON of a request, `engine` keeps many requests open at
once. Addresses and keys stay in here: no message, log line, row or record holds them. Weights are not needed here, and
no server is started.
"""
