"""Synthetic funnel: a simulated logging system whose best reachable recall is known.

- :mod:`.settings`: settings, and the knowledge of each stage.
- :mod:`.world`: users, items, preferences and past likes.
- :mod:`.features`: schema of the log, and the features of each stage.
- :mod:`.traffic`: requests, and the funnel levels of their candidates.
- :mod:`.ceiling`: best joint recall that a cascade can reach.
- :mod:`.chain`: clicks, and probabilities of exposure and click.

:func:`cascaderank.data.sources.synthetic.synthetic_source` writes the request log of a funnel.
"""
