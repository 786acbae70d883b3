"""Recipes: configs that are part of the package, with the commands to run them in their header."""

import os
import re
from importlib.resources import files
from pathlib import Path

from cascaderank.errors import ConfigError, did_you_mean

_ROOT = Path(str(files("cascaderank")))
_DATA_PATH = re.compile(r'(?m)^(\[data\]\n(?:(?!\[).*\n)*?path = )"[^"\n]*"')


def recipes() -> dict[str, str]:
    """Return what each recipe is for, by its name, such as ``"simulation/funnel"``.

    Examples:
        >>> recipes()["trec_dl_three_stage"]
        'Three stages on six real retrieval systems: lexical scores, then also dense and sparse \
models, then all.'
    """
    folder = _folder()
    names = {p.relative_to(folder).with_suffix("").as_posix(): p for p in folder.rglob("*.toml")}
    return {name: _summary(names[name].read_text(encoding="utf-8")) for name in sorted(names)}


def recipe(
    name: str,
    *,
    to: str | os.PathLike[str] | None = None,
    dataset: str | os.PathLike[str] | None = None,
) -> str:
    """Return the text of a recipe.

    Args:
        name: name of the recipe.
        to: file that the text will be written to; the commands in its header then name this file.
        dataset: folder of a request log, in place of that of the recipe.

    Raises:
        ConfigError: if there is no such recipe.

    Examples:
        >>> recipe("funnel_two_stage", to="mine.toml").splitlines()[3]
        '#   cascaderank train mine.toml'
    """
    known = recipes()
    if name not in known:
        raise ConfigError(
            f"no recipe called '{name}'{did_you_mean(name, known)}; `cascaderank init --list` "
            "lists them"
        )
    text = (_folder() / f"{name}.toml").read_text(encoding="utf-8")
    if to is not None:
        text = text.replace(f"configs/{name}.toml", Path(to).as_posix())
    if dataset is not None:
        path = Path(dataset).as_posix().replace("\\", "\\\\").replace('"', '\\"')
        text = _DATA_PATH.sub(lambda match: f'{match[1]}"{path}"', text, count=1)
    return text


def _folder() -> Path:
    """Return the folder of recipes: in the package or, in its repository, ``configs``."""
    inside, beside = _ROOT / "recipes", _ROOT.parents[1] / "configs"
    return inside if inside.is_dir() else beside


def _summary(text: str) -> str:
    """Return the first sentence of the comment that a recipe starts with."""
    lines = text[: text.find("\n#\n")].splitlines()
    paragraph = " ".join(line.removeprefix("#").strip() for line in lines)
    return re.split(r"(?<=\.)\s", paragraph)[0]
