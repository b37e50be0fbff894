"""Choose an embedder: VGGish if it is installed, otherwise the built-in mini."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggish.common.choices import EMBEDDERS, Device, EmbedderName, Precision
from vggish.embedders.installed import find_installed, load_embedder
from vggish.embedders.mini import MINI, find_mini
from vggish.errors import OptionError, WeightsError, WeightsNotInstalledError
from vggish.network.runtime import Embedder, check_precision
from vggish.postprocess import Pca


@dataclass(frozen=True)
class EmbedderChoice:
    """An embedder that was chosen, and why.

    Attributes:
        name: of the embedder.
        precision: that it will have.
        reason: why "auto" chose it, and how to get the other one, in one line without a full
            stop; "" for an embedder chosen by name.
    """

    name: Literal["vggish", "mini"]
    precision: Precision
    reason: str = ""

    def load(self, device: Device = "auto") -> tuple[Embedder, Pca | None]:
        """Load the network and its PCA; mini has none, as its output is whitened already.

        Raises:
            WeightsError: the files are damaged.
            OptionError: no such device.
        """
        if self.name == "vggish":
            return load_embedder(precision=self.precision, device=device)
        mini = find_mini(verify=True)
        embedder = Embedder(
            mini.path,
            name=MINI,
            weights_sha256=mini.sha256,
            model_sha256=mini.sha256,
            precision=mini.precision,
            device=device,
        )
        return embedder, None


def find_embedder(
    name: EmbedderName = "auto", precision: Precision | None = None
) -> EmbedderChoice:
    """Choose an embedder without loading it.

    Args:
        name: "vggish", "mini", or "auto" for VGGish if it is installed and intact, and
            otherwise mini.
        precision: "float32" or "int8"; None for VGGish's float32, or mini's only precision.
            If "auto" falls back to mini with another precision, the reason says so.

    Raises:
        WeightsNotInstalledError: VGGish is requested and not installed, or mini is missing.
        WeightsError: the files of the requested embedder, or of mini, are damaged.
        OptionError: unknown name or precision, or mini does not have the requested precision.
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
        return EmbedderChoice(MINI, only)
    try:
        find_installed("vggish")
    except WeightsError as error:
        if name == "vggish":
            raise
        reason = " ".join(str(error).split("\n"))
        if isinstance(error, WeightsNotInstalledError):
            reason = "VGGish is not installed; to install it: audiotag weights fetch vggish"
        only = find_mini().precision
        limit = "" if precision in (None, only) else f" (available only as {only})"
        return EmbedderChoice(MINI, only, f"using the built-in embedder mini{limit}: {reason}")
    reason = "" if name == "vggish" else "using VGGish; for the small embedder: --embedder mini"
    return EmbedderChoice("vggish", "float32" if precision is None else precision, reason)
