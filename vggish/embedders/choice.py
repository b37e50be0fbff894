"""Which embedder: VGGish where it is installed, or mini, which comes with audiotag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggish.common.choices import EMBEDDERS, Device, EmbedderName, Precision
from vggish.embedders.installed import find_installed, load_embedder
from vggish.embedders.mini import MINI, find_mini, verify_mini
from vggish.errors import OptionError, WeightsError, WeightsNotInstalledError
from vggish.network.runtime import Embedder, check_precision
from vggish.postprocess import Pca

_VGGISH_IS_THERE = "using VGGish, which is installed; --embedder mini is the small built-in one"


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        name: of the embedder.
        precision: that it will have.
        reason: why it was chosen and how to get the other one, in one line without a full stop;
            "" where it was asked for by name.
    """

    name: Literal["vggish", "mini"]
    precision: Precision
    reason: str = ""


def choose(name: EmbedderName = "auto", precision: Precision | None = None) -> Choice:
    """Choose an embedder, without loading it.

    Args:
        name: "vggish", "mini", or "auto" for VGGish where it is installed and undamaged, and
            mini elsewhere.
        precision: "float32" or "int8"; None for VGGish's float32, or for what mini has. mini has
            one only: "auto" takes mini all the same, and the reason says so.

    Raises:
        WeightsNotInstalledError: VGGish is asked for and not installed, or mini is missing.
        WeightsError: the files of what is asked for, or of mini, are damaged.
        OptionError: no such name or precision, or mini is asked for in one that it has not.
    """
    if name not in EMBEDDERS:
        raise OptionError(f"embedder must be one of {EMBEDDERS}. Received: {name!r}")
    if precision is not None:
        check_precision(precision)
    if name == MINI:
        only = find_mini().precision
        if precision not in (None, only):
            raise OptionError(
                f"the embedder mini has the precision {only!r} only. Received: {precision!r} "
                "(VGGish has both: --embedder vggish)"
            )
        return Choice(MINI, only)
    try:
        find_installed("vggish")
    except WeightsError as error:
        if name == "vggish":
            raise
        return _fall_back(error, precision)
    taken: Precision = "float32" if precision is None else precision
    if name == "vggish":
        return Choice("vggish", taken)
    return Choice("vggish", taken, _VGGISH_IS_THERE)


def _fall_back(error: WeightsError, precision: Precision | None) -> Choice:
    """mini, for VGGish is absent or damaged."""
    only = find_mini().precision
    all_it_has = "" if precision in (None, only) else f" ({only} is all it has)"
    if isinstance(error, WeightsNotInstalledError):
        why = "VGGish is not installed; get it with: audiotag weights fetch vggish"
    else:
        why = " ".join(str(error).split("\n"))
    return Choice(MINI, only, f"using the built-in embedder mini{all_it_has}, for {why}")


def load(
    name: EmbedderName = "auto", *, precision: Precision | None = None, device: Device = "auto"
) -> tuple[Embedder, Pca | None]:
    """Load an embedder, and the PCA that follows it.

    Args:
        name: see `choose`.
        precision: see `choose`.
        device: "auto", "cpu" or "gpu", see `Embedder`.

    Returns:
        The network, and the PCA of its space; None for mini, whose output is whitened already.

    Raises:
        WeightsNotInstalledError: see `choose`.
        WeightsError: files are damaged.
        OptionError: see `choose`; or no such device.
    """
    choice = choose(name, precision)
    if choice.name == "vggish":
        return load_embedder(precision=choice.precision, device=device)
    mini = verify_mini()
    embedder = Embedder(
        mini.path,
        name=MINI,
        weights_sha256=mini.sha256,
        model_sha256=mini.sha256,
        precision=mini.precision,
        device=device,
    )
    return embedder, None
