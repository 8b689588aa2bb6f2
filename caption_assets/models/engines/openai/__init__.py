"""A model that OpenAI-compatible servers run, one or several, here or elsewhere: `vllm serve`, or others.

`address` is where one is, `connections` how it is reached, `server` asks until it answers, and `replies` reads what it
says. `look` finds out what it serves, `dialects` has what it then takes, `inputs` makes the JSON of a request, `trial`
sends the first one, and `meeting` is all of that at once. `servers` shares windows out among several, and
`conversation` keeps many requests open at once, for the `engine`. Addresses, keys and
headers stay in here: no message, log line, row or record holds them. Weights need not be on this machine, and no server
is started.
"""
