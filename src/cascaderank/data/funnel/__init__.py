"""The synthetic funnel: a logging system of which everything is known, the best recall included.

- :mod:`.settings`: what can be chosen, and who sees what.
- :mod:`.world`: users, items, what they like and liked.
- :mod:`.traffic`: requests, and the levels that the logging system gives their candidates.
- :mod:`.ceiling`: the best joint recall that a cascade can reach on them.

:func:`cascaderank.data.sources.synthetic.synthetic_source` writes a request log with it.
"""
