"""Import of optional packages."""

import importlib
from types import ModuleType

from cascaderank.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or raise an error with the ``pip`` command that installs it.

    Args:
        module: dotted name of the module to import.
        extra: extra of this package that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: if it is not installed.

    Examples:
        >>> require("json", extra="none").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed; run: pip install 'cascaderank[{extra}]'"
        ) from error
