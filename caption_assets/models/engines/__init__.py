"""What runs a model: a file or folder for each engine, none of which knows another one.

`base` is what they all are, `session` keeps one at work through a whole run, `select` takes the one for a variant.
Code that is about one engine's library belongs in its file, which imports the library where it is used. What a family
needs is declared in `models.families`; which model runs is settled before (`models.choice`).
"""
