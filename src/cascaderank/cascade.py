"""A cascade: named stages with quotas, trained and evaluated as one network."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cascaderank.batch import RequestBatch
from cascaderank.errors import CascadeRankError, ConfigError
from cascaderank.html_tables import html_table
from cascaderank.layers.named_modules import NamedModules
from cascaderank.limits import check_fits
from cascaderank.previous import Output, batch_with_previous, schema_with_previous
from cascaderank.schema import FittedSchema, Role
from cascaderank.selection import select
from cascaderank.stages import STAGES, StageOutput, output_of
from cascaderank.tensors import check_quotas

FEWER_PARAMETERS = (
    "reduce the widths and embedding sizes of the stages, such as hidden and dim, or the number of "
    "categories (buckets, min_count)"
)
"""Remedy for a model that does not fit into the memory."""


@final
class Cascade(nn.Module):
    """Stages that rank in sequence, each passing its quota of candidates on to the next.

    Calling a cascade scores every candidate by every stage, as training and evaluation require;
    :meth:`select` then applies the quotas as a server would.

    Args:
        stages: modules from :class:`~cascaderank.batch.RequestBatch` to scores ``[batch, list]``,
            by name, first and cheapest first.
        quotas: number of candidates that each stage passes on; non-increasing.
        previous: outputs of the previous stage that a stage reads, ``"score"`` and ``"rank"``, by
            the name of the stage; see :func:`~cascaderank.previous.batch_with_previous`.

    Raises:
        ConfigError: if there is no stage, quotas are not positive or increase, or ``previous``
            names the first stage or one that does not exist.
        ShapeError: if the number of quotas differs from the number of stages.

    Examples:
        >>> from cascaderank.stages.linear import Linear
        >>> from cascaderank.schema import Feature
        >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
        >>> stages = {n: Linear(schema, schema.features) for n in ("retrieval", "ranking")}
        >>> cascade = Cascade(stages, quotas=(2, 1))
        >>> batch = RequestBatch(items={"x": torch.rand(1, 3)}, mask=torch.ones(1, 3).bool())
        >>> scores = cascade(batch)
        >>> scores.shape
        torch.Size([2, 1, 3])
        >>> cascade.select(scores, batch.mask).sum(-1).flatten().tolist()
        [2, 1]
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        quotas: Sequence[int],
        *,
        previous: Mapping[str, Sequence[Output]] | None = None,
    ) -> None:
        super().__init__()
        if not stages:
            raise ConfigError("a cascade needs at least one stage; got none")
        self.quotas = check_quotas(quotas, stages=len(stages))
        self.stages = NamedModules(stages)
        self.previous = {name: tuple(outputs) for name, outputs in (previous or {}).items()}
        later = list(stages)[1:]
        for name in self.previous:
            if name not in later:
                raise ConfigError(f"stage '{name}' has no previous stage; those that have: {later}")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, first stage first."""
        return tuple(self.stages)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        return html_table(
            f"cascade of {len(self.quotas)} stages",
            ("stage", "model", "keeps", "parameters"),
            (
                (name, type(stage).__name__, quota, sum(p.numel() for p in stage.parameters()))
                for (name, stage), quota in zip(self.stages.items(), self.quotas, strict=True)
            ),
        )

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return the scores of every stage for every candidate, ``[stages, batch, list]``."""
        scores: list[Tensor] = []
        for name, stage in self.stages.items():
            scores.append(stage(self.inputs(name, batch, scores)))
        return torch.stack(scores)

    def outputs(self, batch: RequestBatch) -> tuple[StageOutput, ...]:
        """Return the full output of each stage; the scores in it are those of :meth:`forward`."""
        outputs: list[StageOutput] = []
        for name, stage in self.stages.items():
            scores = [output.scores for output in outputs]
            outputs.append(output_of(stage, self.inputs(name, batch, scores)))
        return tuple(outputs)

    def inputs(self, stage: str, batch: RequestBatch, scores: Sequence[Tensor]) -> RequestBatch:
        """Return the batch that a stage reads: with outputs of the previous stage, if it has any.

        Args:
            stage: name of the stage.
            batch: batch of the cascade.
            scores: scores ``[batch, list]`` of the earlier stages, first stage first.
        """
        previous = self.previous.get(stage)
        return batch_with_previous(batch, previous, scores, self.quotas) if previous else batch

    def select(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the cascade: each stage ranks the candidates kept by the previous one.

        Args:
            scores: ``[stages, batch, list]``, higher is better; of equal scores the earlier wins.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.

        Returns:
            ``[stages, batch, list]`` bool: the candidates kept by each stage.
        """
        return select(scores, self.quotas, mask)


def build_stage(
    name: str,
    schema: FittedSchema,
    *,
    features: Sequence[str] = ("*",),
    options: Mapping[str, object] | None = None,
    previous: Sequence[Output] = (),
    check_memory: bool = True,
) -> nn.Module:
    """Build a registered stage on a subset of the features.

    Args:
        name: registered name of the stage, as listed by ``cascaderank ls stages``.
        schema: schema fitted to the training requests.
        features: names or shell patterns of the features that the stage may use.
        options: options of the stage.
        previous: outputs of the previous stage that the stage reads too.
        check_memory: whether to check first that the parameters fit into the memory; ``False``
            where :func:`check_parameters_fit` has been called for several stages together.

    Raises:
        ConfigError: if the stage or an option is unknown, no item feature is selected, the
            parameters do not fit into the memory of the machine, or the code of the stage raises
            another exception than those of this library, which is the cause.
        SchemaError: if a pattern matches no feature.
    """
    if check_memory:
        check_parameters_fit(
            parameters_of(name, schema, features=features, options=options, previous=previous)
        )
    try:
        return _built(name, schema, features, options, previous)
    except (CascadeRankError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"stage '{name}' cannot be built ({type(error).__name__}: {error}); "
            "correct the stage or its options"
        ) from error


def parameters_of(
    name: str,
    schema: FittedSchema,
    *,
    features: Sequence[str] = ("*",),
    options: Mapping[str, object] | None = None,
    previous: Sequence[Output] = (),
) -> int:
    """Return the number of parameters of a stage without building it or drawing random numbers.

    Args:
        name: as of :func:`build_stage`, like the other arguments.
        schema: schema fitted to the training requests.
        features: names or shell patterns of the features that the stage may use.
        options: options of the stage.
        previous: outputs of the previous stage that the stage reads too.

    Returns:
        The number; 0 for a stage of another package that can only be built on a device with values.

    Raises:
        ConfigError: as :func:`build_stage`, except that nothing has to fit into the memory.
        SchemaError: if a pattern matches no feature.

    Examples:
        >>> from cascaderank.schema import Feature
        >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
        >>> parameters_of("mlp", schema, options={"hidden": [10**6, 10**6]})
        1000004000001
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _WithoutValues():
            outline = _built(name, schema, features, options, previous)
            return sum(parameter.numel() for parameter in outline.parameters())
    except CascadeRankError:
        raise
    except Exception as error:  # noqa: BLE001 - a stage of another package may fail in any way
        # More than 2^63 bytes in one parameter are an overflow.
        return 2**63 if "overflow" in str(error).lower() else 0


def check_parameters_fit(parameters: int) -> None:
    """Check that as many parameters fit into the memory of the machine.

    Raises:
        ConfigError: if they do not.
    """
    check_fits(
        4.0 * parameters,
        f"a model of {parameters:,} parameters",
        FEWER_PARAMETERS,
    )


class _WithoutValues(TorchFunctionMode):
    """Leave out initial values: random normal ones on ``meta`` import a compiler for seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and func in (getattr(nn.init, name, None), Tensor.normal_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _built(
    name: str,
    schema: FittedSchema,
    features: Sequence[str],
    options: Mapping[str, object] | None,
    previous: Sequence[Output],
) -> nn.Module:
    values = STAGES.checked_options(name, options or {})
    chosen = schema.select(features)
    if not any(f.role is Role.ITEM for f in chosen):
        raise ConfigError(
            f"a stage needs at least one feature of the candidates; got {[f.name for f in chosen]}"
        )
    extended = schema_with_previous(schema, previous)
    added = extended.features[len(schema.features) :]
    return STAGES[name](extended, (*chosen, *added), **values)
