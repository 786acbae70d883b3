"""Modules that are stored by any name, such as those of features and stages."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping
from typing import Final, final
from urllib.parse import quote

from torch import nn

_ESCAPED: Final = "escaped:"


def attribute_name(name: str, container: nn.Module) -> str:
    """Return the name under which a container stores a member, as in its ``state_dict``.

    It is the name itself, unless PyTorch cannot store a member of that name: one that is empty,
    that has a dot, or that is an attribute of the container, such as ``items`` or ``type``. Such a
    name is escaped, and so is one that looks escaped. Different names stay different.

    Args:
        name: any text.
        container: module that stores the members, such as an ``nn.ModuleDict``.

    Examples:
        >>> [attribute_name(name, nn.ModuleDict()) for name in ("price", "user.age", "type")]
        ['price', 'escaped:user%2Eage', 'escaped:type']
    """
    # Not hasattr, which is also true for members.
    is_attribute = name in vars(container) or any(name in vars(c) for c in type(container).__mro__)
    if name and "." not in name and not is_attribute and not name.startswith(_ESCAPED):
        return name
    return _ESCAPED + quote(name, safe=" ", errors="surrogatepass").replace(".", "%2E")


@final
class NamedModules(nn.ModuleDict):
    """A ``ModuleDict`` with any text as keys; :func:`attribute_name` states how it is stored.

    Examples:
        >>> tables = NamedModules({"user.age": nn.Embedding(3, 2), "city": nn.Embedding(5, 2)})
        >>> list(tables), tables["user.age"]
        (['user.age', 'city'], Embedding(3, 2))
        >>> list(tables.state_dict())
        ['escaped:user%2Eage.weight', 'city.weight']
    """

    def __init__(self, modules: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self._attributes: dict[str, str] = {}
        self.update(modules or {})

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(self._attributes[key])

    def __setitem__(self, key: str, module: nn.Module) -> None:
        attribute = attribute_name(key, self)
        super().__setitem__(attribute, module)
        self._attributes[key] = attribute

    def __delitem__(self, key: str) -> None:
        super().__delitem__(self._attributes.pop(key))

    def __contains__(self, key: object) -> bool:
        return key in self._attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes)

    def clear(self) -> None:
        """Remove all modules."""
        super().clear()
        self._attributes.clear()

    def keys(self) -> KeysView[str]:
        """Return the names, in the order of insertion."""
        return self._attributes.keys()

    def items(self) -> ItemsView[str, nn.Module]:
        """Return the pairs of name and module, in the order of insertion."""
        return dict(zip(self._attributes, self.values(), strict=True)).items()
