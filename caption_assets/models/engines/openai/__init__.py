"""A model that an OpenAI-compatible server runs, here or elsewhere: `vllm serve`, or another one.

`address` is where it is, `server` asks until it answers, `inputs` makes the JSON of a request, `engine` keeps many
requests open at once. Addresses and keys stay in here: no message, log line, row or record holds them. Weights need not
be on this machine, and no server is started.
"""
