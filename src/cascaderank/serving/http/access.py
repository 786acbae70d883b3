"""Access to a server: addresses, hosts and tokens."""

import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from cascaderank.errors import ConfigError
from cascaderank.serving.http.problems import ProblemError
from cascaderank.text_files import read_text

TOKEN: Final = "CASCADERANK_TOKEN"  # noqa: S105 - the name of a variable
ADMIN_TOKEN: Final = "CASCADERANK_ADMIN_TOKEN"  # noqa: S105
_SHORTEST: Final = 16


@final
@dataclass(frozen=True, kw_only=True)
class Access:
    """Tokens of a server; ``None`` for none.

    Without a token, a server answers only requests that name the machine itself as their host: a
    page of another site, whose name is made to resolve to this machine, is refused.
    """

    token: str | None = None
    """Token of all requests but those of health, the page, and reload."""
    admin_token: str | None = None
    """Token of reload, which is refused without one."""

    def check_host(self, host: str) -> None:
        """Check the header ``Host``.

        Raises:
            ProblemError: if there is no token, and the host is not the machine itself.
        """
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self.token is None and not is_loopback(name.strip("[]")):
            raise ProblemError(
                "misdirected",
                "a server without a token answers only requests to localhost",
                field="Host",
                expected="localhost, or an address of loopback",
                found=repr(host[:200]),
            )

    def check_token(self, authorization: str) -> None:
        """Check the header ``Authorization``.

        Raises:
            ProblemError: if there is a token, and it is not in the header.
        """
        if self.token is not None:
            _check(authorization, self.token, TOKEN)

    def check_admin(self, authorization: str) -> None:
        """Check the header ``Authorization`` of an administrator.

        Raises:
            ProblemError: if the token of the administrator is not in the header, or there is none.
        """
        if self.admin_token is None:
            raise ProblemError(
                "forbidden",
                f"this server was started without an admin token; set {ADMIN_TOKEN}, or give "
                "--admin-token-file",
            )
        _check(authorization, self.admin_token, ADMIN_TOKEN)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is the machine itself.

    Examples:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def access_of(
    host: str,
    *,
    token_file: str | os.PathLike[str] | None = None,
    admin_token_file: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Access:
    """Return the tokens of a server from files or the environment.

    Args:
        host: address that the server listens at.
        token_file: file with the token; default: the variable ``CASCADERANK_TOKEN``.
        admin_token_file: file with the token of an administrator; default: the variable
            ``CASCADERANK_ADMIN_TOKEN``.
        environment: variables; default: those of the process.

    Raises:
        ConfigError: if a token is too short or not printable ASCII, a file cannot be read, or the
            host is not the machine itself and there is no token.
    """
    environment = os.environ if environment is None else environment
    access = Access(
        token=_token(token_file, environment, TOKEN),
        admin_token=_token(admin_token_file, environment, ADMIN_TOKEN),
    )
    if access.token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: other machines can reach this address, so that a token is needed; set "
            f"{TOKEN}, or give --token-file"
        )
    return access


def token_of(file: str | os.PathLike[str] | None) -> str | None:
    """Return a token from a file, or from ``CASCADERANK_TOKEN``; ``None`` without both.

    Raises:
        ConfigError: see :func:`access_of`.
    """
    return _token(file, os.environ, TOKEN)


def _token(
    file: str | os.PathLike[str] | None, environment: Mapping[str, str], name: str
) -> str | None:
    if file is not None:
        where = str(Path(file))
        try:
            text = read_text(file).strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{where}: the token cannot be read: {reason}") from None
    else:
        where, text = name, environment.get(name, "").strip()
        if not text:
            return None
    if len(text) < _SHORTEST or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            f"{where}: expected a token of at least {_SHORTEST} printable ASCII characters without "
            f"spaces, found {len(text)} characters; write one with `openssl rand -hex 32`"
        )
    return text


def _check(authorization: str, token: str, name: str) -> None:
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise ProblemError(
            "unauthorized",
            f"the header Authorization must be `Bearer` and the value of {name} of the server",
            field="Authorization",
            expected="Bearer and the token",
            found="another value" if authorization else "no such header",
            headers={"www-authenticate": "Bearer"},
        )
