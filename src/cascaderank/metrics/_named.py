"""Metrics by name: ``"ndcg@15"``, ``'ndcg(gain="linear")@10'``, ``"recall@10 >= 3"``."""

import ast
import json
import re
import traceback
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cascaderank.errors import CascadeRankError, ConfigError, did_you_mean
from cascaderank.metrics._registered import ALIASES, CONSISTENCY, ERRORS, METRICS, POOLED
from cascaderank.tensors import check_lists

_NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)"
_SIZE = r"(?:@([1-9][0-9]{0,8}))?"
_NAME = re.compile(
    rf"([A-Za-z_][A-Za-z0-9_]*)(?:\((.*)\))?{_SIZE}{_SIZE}"
    rf"(?: >= {_NUMBER})?(?: among >= {_NUMBER})?",
    re.DOTALL,
)


@dataclass(frozen=True)
class NamedMetric:
    """A metric of one ranking together with its options; built by :func:`named_metric`."""

    text: str
    """Canonical name, printed in reports and used as a key."""
    name: str
    """Registered name of the metric, one of :data:`POOLED` or :data:`ERRORS`, or
    :data:`CONSISTENCY`."""
    options: dict[str, Any]
    takes_truth: bool
    """Whether the metric is computed with respect to a ground truth."""
    threshold: float | None = None
    """If given, the ground truth is every label of at least this value, instead of the ground
    truth of the run."""
    among: float | None = None
    """If given, only candidates with a label of at least this value are evaluated."""

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        *,
        k: int | None = None,
        threshold: float | None = None,
        mask: Tensor | None = None,
        retrieved: Tensor | None = None,
    ) -> Tensor:
        """Return one value per list, NaN where undefined.

        For ``gauc`` and ``pooled_auc`` the value is the AUC of each list.

        Args:
            scores: ``[..., list]``, higher is better.
            labels: ``[..., list]``, higher is better.
            k: the ground truth is the top ``k`` by label, unless the name specifies another.
            threshold: the ground truth is every label of at least this value, unless the name
                specifies another.
            mask: ``[..., list]`` bool, ``True`` for a real candidate.
            retrieved: ``[..., list]`` bool, ``True`` for a candidate of the evaluated ranking; only
                if :attr:`ranks_a_list`. The other candidates count in denominators only.

        Raises:
            ConfigError: if the code of the metric raises another exception than those of this
                library, which is the cause, or does not return one value per list.
        """
        options = dict(self.options)
        if retrieved is not None:
            options["retrieved"] = retrieved
        if self.takes_truth and "k" not in options:
            options |= self.truth(k, threshold)
        mask = self.candidates(labels, mask)
        if self.name in ERRORS:
            return _error(self.name, scores, labels, mask)
        name = "auc" if self.name in POOLED else self.name
        try:
            value: object = METRICS[name](scores, labels, mask=mask, **options)
        except CascadeRankError:
            raise
        except Exception as error:
            *_, last = traceback.extract_tb(error.__traceback__)
            raise ConfigError(
                f"metric '{self.text}' failed with {type(error).__name__}: {error} "
                f"({Path(last.filename).name}, line {last.lineno}), for scores "
                f"{list(scores.shape)} and labels {list(labels.shape)}; correct the metric, or "
                "remove it from evaluation.metrics"
            ) from error
        if not isinstance(value, Tensor) or value.shape != scores.shape[:-1]:
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"metric '{self.text}' must return a tensor with one value per list, "
                f"{list(scores.shape[:-1])}; got {found}"
            )
        return value

    @property
    def ranks_a_list(self) -> bool:
        """Whether the metric applies to a ranked list of some of the candidates.

        This is the case for metrics with the parameter ``retrieved``, such as NDCG and recall, and
        not for metrics of pairs or errors.
        """
        return self.name in METRICS and "retrieved" in METRICS.options(self.name)

    @property
    def has_exponential_gain(self) -> bool:
        """Whether the gain of a label y is 2^y - 1, which is defined for grades."""
        parameter = METRICS.options(self.name).get("gain") if self.name in METRICS else None
        gain = self.options.get("gain", parameter and parameter.default)
        return bool(gain == "exponential")

    def truth(self, k: int | None, threshold: float | None) -> dict[str, Any]:
        """Return the arguments ``k`` and ``threshold``, given those of the run."""
        if self.threshold is not None:
            return {"k": None, "threshold": self.threshold}
        return {"k": k, "threshold": threshold}

    def candidates(self, labels: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the mask of the evaluated candidates, given the mask of the real ones."""
        if self.among is None:
            return mask
        among = ~(labels < self.among)  # a NaN label stays, and makes the list undefined
        return among if mask is None else among & mask


class _Signature(NamedTuple):
    """Arguments that the name of a metric can specify."""

    sizes: list[str]
    """Parameters that the numbers after ``@`` set, in order."""
    required_sizes: list[str]
    takes_truth: bool
    options: list[str] | None
    """Names of the options in parentheses; ``None`` if the registry checks them."""


def named_metric(text: str) -> NamedMetric:
    """Parse the name of a metric of one ranking.

    The grammar is ``name(option=value, ...)@cut-off@size >= threshold among >= label``; all parts
    but the name are optional. Parentheses hold any keyword option of the metric; a value is a
    number, a quoted string, ``true`` or ``false``. The first number after ``@`` is the cut-off:
    the number of ranks that are evaluated. The second is the size of the ground truth. Without
    it, the ground truth is every label of at least the number after ``>=`` or, without that too,
    the ground truth of the run. The number after ``among >=`` is the lowest label of the
    candidates that are evaluated. ``map`` and ``mrr`` are average precision and reciprocal rank.

    ``text`` of the result is the canonical name: options sorted by name, cut-off and size after
    ``@``, the threshold after ``>=``. A name without parentheses is canonical as written.

    If labels are probabilities and scores are log-odds, ``bias`` and ``absolute_error`` are the
    mean error of the predicted probability and the mean of its absolute value.

    Three metrics are not computed per list: ``gauc`` is the AUC of requests weighted by their
    number of candidates, ``pooled_auc`` is the AUC over the candidates of all requests pooled
    together, and ``rcs`` is the agreement of a stage with the next one at the quota of the next
    one, or at 10 for ``rcs@10``.

    Args:
        text: such as ``"ndcg"``, ``"ndcg@15"`` (exponential gain), ``'ndcg(gain="linear")@15'``,
            ``"recall@30@15"``, ``"opa"``, ``"recall@10 >= 3"``, ``"gauc >= 4 among >= 3"``.

    Raises:
        ConfigError: if the metric or an option does not exist, an option is out of range, or a
            required one is missing.

    Examples:
        >>> named_metric("map@10").name, named_metric("recall@30@15").options
        ('average_precision', {'m': 30, 'k': 15})
        >>> named_metric("ndcg(k=10, gain='linear')").text
        'ndcg(gain="linear")@10'
        >>> clicks = named_metric("gauc >= 4 among >= 3")  # for labels that are levels
        >>> clicks.threshold, clicks.among
        (4.0, 3.0)

    Source: this project.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigError(
            'a metric is written as ndcg, ndcg@15, ndcg(gain="linear")@15, recall@30@15, '
            f"recall@10 >= 3 or auc >= 4 among >= 3; got '{text}'"
        )
    name = ALIASES.get(match[1], match[1])
    signature = _signature(name)
    numbers = [int(size) for size in match.groups()[2:4] if size]
    threshold, among = (None if n is None else float(n) for n in match.groups()[4:])
    if len(numbers) > len(signature.sizes):
        raise ConfigError(
            f"metric '{name}' takes at most {len(signature.sizes)} number(s) after @; got '{text}'"
        )
    sizes: dict[str, Any] = dict(zip(signature.sizes, numbers, strict=False))
    given = {} if match[2] is None else _literals(match[2], text)
    options = _checked(name, given, signature, text)
    outside = {*sizes, *(() if threshold is None else ("threshold",))}
    if twice := sorted(options.keys() & outside):
        raise ConfigError(f"{twice[0]} is specified twice; got '{text}'")
    options |= sizes
    threshold_text = match[5]
    if options.get("threshold") is not None:
        threshold = float(options.pop("threshold"))
        # No exponent: the canonical name must be one that can be read again.
        threshold_text = format(Decimal(repr(threshold)), "f").removesuffix(".0")
    if among is not None and threshold is not None and among >= threshold:
        raise ConfigError(
            "the number after among >= must be lower than the threshold of the ground truth, "
            f"or all candidates belong to it; got '{text}'"
        )
    missing = [size for size in signature.required_sizes if size not in options]
    if missing:
        raise ConfigError(f"metric '{name}' requires a cut-off, such as '{text}@10'")
    if threshold is not None and "k" in options:
        raise ConfigError(
            f"metric '{name}' takes one of k and a threshold of the ground truth; got '{text}'"
        )
    if threshold is not None and not signature.takes_truth:
        raise ConfigError(f"metric '{name}' takes no threshold of the ground truth; got '{text}'")
    if among is not None and name == CONSISTENCY:
        raise ConfigError(
            f"metric '{name}' compares the candidates that a stage passes on; "
            f"among >= does not apply; got '{text}'"
        )
    if match[2] is not None:
        text = _canonical(match[1], options, signature.sizes, threshold_text, match[6])
    metric = NamedMetric(text, name, options, signature.takes_truth, threshold, among)
    if match[2] is not None and name in METRICS:
        _try_out(metric)
    return metric


def _signature(name: str) -> _Signature:
    if name in POOLED:
        return _Signature([], [], takes_truth=True, options=["threshold"])
    if name == CONSISTENCY:
        return _Signature(["k"], [], takes_truth=False, options=["k"])
    if name in ERRORS:
        return _Signature([], [], takes_truth=False, options=[])
    if name not in METRICS:
        known = [*METRICS, *ALIASES, *POOLED, *ERRORS, CONSISTENCY]
        raise ConfigError(
            f"no metric called '{name}'{did_you_mean(name, known)}; available: {', '.join(known)}"
        )
    parameters = METRICS.options(name)
    if "quotas" in parameters:
        raise ConfigError(f"metric '{name}' evaluates a whole cascade, not one ranking")
    takes_truth = "threshold" in parameters
    sizes: list[str] = [size for size in ("m", "k") if size in parameters]
    if "m" not in parameters and takes_truth:
        sizes = []  # k is the size of the ground truth alone, which is that of the run
    required = [
        size
        for size in sizes
        if parameters[size].default is parameters[size].empty and not (size == "k" and takes_truth)
    ]
    return _Signature(sizes, required, takes_truth=takes_truth, options=None)


def _literals(arguments: str, text: str) -> dict[str, object]:
    """Parse the inside of the parentheses: keywords with a number, a string or a boolean."""
    wrong = ConfigError(f"options of a metric are written as name=value, ...; got '{text}'")
    try:
        call = ast.parse(f"_({arguments})", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: of deep nesting
        raise wrong from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise wrong
    values: dict[str, object] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise wrong
        values[keyword.arg] = _literal(keyword.value, keyword.arg, text)
    return values


def _literal(node: ast.expr, option: str, text: str) -> object:
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return node.id == "true"
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        value = None
    if not isinstance(value, bool | int | float | str):
        raise ConfigError(
            f"{option} must be a number, a string in quotes, true or false; "
            f"got {ast.unparse(node)} in '{text}'"
        )
    return value


def _checked(
    name: str, given: dict[str, object], signature: _Signature, text: str
) -> dict[str, Any]:
    """Return the options as the declared types; checks names, types and required options."""
    if signature.options is None:
        parameters = METRICS.options(name)
        provided = {*given, *signature.sizes, "mask", "retrieved", "k", "threshold"}
        missing = [
            option
            for option, parameter in parameters.items()
            if parameter.default is parameter.empty and option not in provided
        ]
        if missing:
            raise ConfigError(
                f"metric '{name}' requires option '{missing[0]}', such as "
                f"'{name}({missing[0]}=...)'; got '{text}'"
            )
        return METRICS.checked_options(name, given)
    for option, value in given.items():
        if option not in signature.options:
            raise ConfigError(
                f"metric '{name}' has no option '{option}'"
                f"{did_you_mean(option, signature.options)}; "
                f"it takes {', '.join(signature.options) or 'none'}"
            )
        kinds = int if option == "k" else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or (option == "k" and value < 1):
            raise ConfigError(
                f"metric '{name}': {option} must be a "
                f"{'positive integer' if option == 'k' else 'number'}; got {value!r}"
            )
    return dict(given)


def _canonical(
    written: str,
    options: dict[str, Any],
    sizes: list[str],
    threshold: str | None,
    among: str | None,
) -> str:
    """Return the name that all spellings of a metric have in common."""
    behind = []
    for size in sizes:
        if options.get(size) is None:
            break
        behind.append(size)
    inside = ", ".join(
        f"{option}={json.dumps(value, ensure_ascii=False)}"
        for option, value in sorted(options.items())
        if option not in behind
    )
    parts = [written, f"({inside})" if inside else "", *(f"@{options[size]}" for size in behind)]
    parts.append("" if threshold is None else f" >= {threshold}")
    parts.append("" if among is None else f" among >= {among}")
    return "".join(parts)


def _try_out(metric: NamedMetric) -> None:
    """Evaluate the metric on a small list, so that an option out of range is reported early."""
    example = torch.tensor([[1.0, 0.0]])
    try:
        metric(example, example, k=1)
    except ValueError as error:
        if error.__cause__ is not None:  # names the metric
            raise
        raise ConfigError(f"metric '{metric.text}': {error}") from None


def _error(name: str, scores: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean error of each list in double precision; NaN for an empty list."""
    mask = check_lists(scores, labels, mask)
    error = scores.masked_fill(~mask, 0.0).double().sigmoid() - labels.masked_fill(~mask, 0.0)
    if name == "absolute_error":
        error = error.abs()
    return error.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1)
