"""``cascaderank serve``: a bundle behind an address."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascaderank.cli.shell import finite, notify, user_errors
from cascaderank.errors import ConfigError, shown

if TYPE_CHECKING:
    from cascaderank.serving.feature_source import FeatureSource


@user_errors
def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    host: Annotated[
        str, typer.Option(help="Address to listen at. Others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen at; 0 for any that is free.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token of clients. Default: CASCADERANK_TOKEN, if set."),
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token for reload. Default: CASCADERANK_ADMIN_TOKEN, if set."
        ),
    ] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            callback=finite,
            help="Time for an answer with its wait. A stage that would exceed it is left out.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Threads that rank. Default: one for each processor."),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100_000,
            help="Requests that may wait; further ones are answered with 503. Default: four for "
            "each worker.",
        ),
    ] = None,
    bundles: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="A further bundle, NAME=FOLDER; can be repeated."),
    ] = None,
    ab: Annotated[
        list[str] | None,
        typer.Option(
            help="Share of the requests that a further bundle answers, NAME=SHARE; can be repeated."
        ),
    ] = None,
    shadow: Annotated[
        list[str] | None,
        typer.Option(
            help="Further bundle that ranks every request after the answer, for metrics; can be "
            "repeated."
        ),
    ] = None,
    interleave: Annotated[
        str | None,
        typer.Option(help="Further bundle whose list is interleaved with that of BUNDLE."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Feature of the request that selects the bundle, such as a user. Default: the id "
            "of the request."
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a data set to write what is served to, with feedback; one that exists "
            "is continued."
        ),
    ] = None,
    log_sample: Annotated[
        int,
        typer.Option(min=0, max=32_767, help="Candidates to log of those that each stage dropped."),
    ] = 20,
    log_seconds: Annotated[
        float,
        typer.Option(
            min=0.1, max=86_400, help="Time after which a part of the log is written to the disk."
        ),
    ] = 60,
    log_requests: Annotated[
        int,
        typer.Option(min=1, max=10_000_000, help="Requests after which a part is written."),
    ] = 10_000,
    exploration: Annotated[
        float,
        typer.Option(
            min=0,
            callback=finite,
            help="Noise on the request vector of the first stage of requests that are logged, in "
            "units of its length.",
        ),
    ] = 0,
    propensity_draws: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000_000,
            help="Draws of the noise to estimate the probability of each candidate to be served.",
        ),
    ] = 0,
    redis: Annotated[
        str | None,
        typer.Option(
            envvar="CASCADERANK_REDIS",
            help="Redis with newer values of item features, such as redis://localhost:6379/0. "
            "Needs the extra `redis`.",
        ),
    ] = None,
    redis_feature: Annotated[
        list[str] | None,
        typer.Option(help="A feature of items that Redis has; can be repeated."),
    ] = None,
    max_body_mb: Annotated[
        float, typer.Option(min=0.001, max=4_096, help="Largest body in MiB.")
    ] = 8,
    max_candidates: Annotated[
        int, typer.Option(min=1, max=100_000_000, help="Most candidates of a request.")
    ] = 50_000,
    max_history: Annotated[
        int, typer.Option(min=1, max=100_000_000, help="Longest list in a request.")
    ] = 10_000,
    send_seconds: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Time that a client has to send a request.")
    ] = 10,
    connections: Annotated[
        int, typer.Option(min=1, max=100_000, help="Most connections at the same time.")
    ] = 256,
) -> None:
    """Serve a bundle over HTTP, until SIGTERM or SIGINT; requests that have begun are finished.

    `POST /v1/rank` ranks, `GET /v1/bundle` describes the bundle, `GET /metrics` is for Prometheus,
    and `/openapi.json` describes all. `/` is a page that shows why an item is in an answer, or not.
    `POST /v1/reload` loads the folder again and needs the admin token. Needs the extra `serve`.
    """
    # One thread per request: this must be set before PyTorch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from cascaderank.extras import require

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="serve")
    from cascaderank.serving.exploration import Exploration
    from cascaderank.serving.http.access import access_of
    from cascaderank.serving.http.http_limits import HttpLimits
    from cascaderank.serving.http.server import bound_socket, url_of
    from cascaderank.serving.http.server import serve as run
    from cascaderank.serving.http.service import Service
    from cascaderank.serving.logged_candidates import Sampling
    from cascaderank.serving.served_log import ServedLogWriter
    from cascaderank.serving.served_settings import LogSettings
    from cascaderank.serving.variant_routing import MAIN, Routing

    if log is None and (exploration or propensity_draws):
        raise ConfigError(
            "--exploration and --propensity-draws need --log: without a log, nothing is learned "
            "from noise; set --log DIR, or leave them out"
        )
    source, threads = _source(redis, redis_feature), workers or os.cpu_count() or 1
    logged = LogSettings(
        sampling=Sampling(size=log_sample),
        exploration=Exploration(scale=exploration) if exploration else None,
        propensity_draws=propensity_draws,
        requests_per_part=log_requests,
        seconds_per_part=log_seconds,
    )
    folders = {MAIN: str(bundle), **_pairs("--bundle", "NAME=FOLDER", bundles, taken=(MAIN,))}
    shares = {n: _share(n, text) for n, text in _pairs("--ab", "NAME=SHARE", ab).items()}
    routing = Routing(
        variants=tuple(folders),
        ab=shares,
        shadow=tuple(dict.fromkeys(shadow or ())),
        interleave=interleave,
        key=key,
    )
    access = access_of(host, token_file=token_file, admin_token_file=admin_token_file)
    limits = HttpLimits(
        body_bytes=int(max_body_mb * 2**20),
        candidates=max_candidates,
        list_length=max_history,
        send_seconds=send_seconds,
        connections=connections,
    )
    with bound_socket(host, port) as bound, ExitStack() as logs:
        service = Service(
            folders,
            routing=routing,
            limits=limits,
            workers=threads,
            queue=4 * threads if queue is None else queue,
            deadline_ms=deadline_ms,
            source=source,
        )
        try:
            rankers = service.rankers
            if log is not None:
                service.sink = logs.enter_context(ServedLogWriter(log, rankers[MAIN], logged))
                service.shadow_sinks = {
                    name: logs.enter_context(ServedLogWriter(folder, rankers[name], logged))
                    for name, folder in _shadow_logs(log, routing.shadow).items()
                }
        except BaseException:
            service.close()
            raise
        names = ", ".join(manifest.name for manifest in service.manifests.values())
        run(
            service,
            bound,
            access=access,
            started=lambda: notify(f"serving {names} on {url_of(bound)}"),
        )
    notify("stopped; all requests that had begun are finished")


def _source(url: str | None, features: list[str] | None) -> "FeatureSource | None":
    if (url is None) != (not features):
        given, missing = (
            ("--redis-feature", "--redis URL") if features else ("--redis", "--redis-feature NAME")
        )
        raise ConfigError(f"{given} needs {missing}; set both, or leave both out")
    if url is None:
        return None
    from cascaderank.serving.redis_source import RedisSource

    return RedisSource(url, features=features or ())


def _shadow_logs(log: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the folder of the log of each shadow; that of the only one has no name."""
    beside = log.with_name(f"{log.name}-shadow")
    if len(names) == 1:
        return {names[0]: beside}
    return {name: beside.with_name(f"{beside.name}-{name}") for name in names}


def _pairs(
    option: str, form: str, texts: list[str] | None, *, taken: tuple[str, ...] = ()
) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        if not name or not value or not name.replace("-", "_").isidentifier():
            raise ConfigError(f"{option} takes {form}; got {shown(text)}")
        if name in found or name in taken:
            raise ConfigError(f"{option}: the name '{name}' is used twice; choose another")
        found[name] = value
    return found


def _share(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"--ab {name}={text}: expected a share between 0 and 1, found {shown(text)}"
        ) from None
