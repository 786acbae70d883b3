"""A funnel of several stages, simulated over real users.

- :mod:`.settings`: what can be chosen.
- :mod:`.population`: users and items, out of an ordinary request log.
- :mod:`.teachers`: the models that play the stages, and the user.
- :mod:`.scoring`: their scores of users and items.
- :mod:`.funnel`: requests, drawn and cut stage by stage; knows nothing of models.
- :mod:`.simulate`: all of it, into a request log with levels.
"""
