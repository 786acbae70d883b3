"""Simulation of a multi-stage funnel over the users of a request log.

- :mod:`.settings`: configuration.
- :mod:`.population`: users and items of a request log.
- :mod:`.teachers`: models that act as the stages, and as the user.
- :mod:`.scoring`: scores of user-item pairs by the teachers.
- :mod:`.funnel`: sampling of requests and selection stage by stage, independent of models.
- :mod:`.simulate`: the whole simulation, written as a request log with levels.
"""
