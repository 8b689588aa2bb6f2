"""A model that an OpenAI-compatible server runs, here or elsewhere: `vllm serve`, or another one.

`address` is where it is, `connections` how it is reached, `server` asks until it answers, and `replies` reads what it
says. `look` finds out what it serves, `dialects` has what it then takes, `inputs` makes the JSON of a request, and
`trial` sends the first one. `conversation` keeps many requests open at once, for the `engine`. Addresses, keys and
headers stay in here: no message, log line, row or record holds them. Weights need not be on this machine, and no server
is started.
"""
