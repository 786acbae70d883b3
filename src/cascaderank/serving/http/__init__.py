"""HTTP for bundles, with FastAPI and uvicorn: the extra ``serve``.

:func:`cascaderank.serving.http.server.serve` runs a server,
:func:`cascaderank.serving.http.app.build_app` makes the ASGI application. Only these two modules
and :mod:`~cascaderank.serving.http.serving_metrics` need the extra.
"""
