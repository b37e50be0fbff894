"""Choose and load an embedder: VGGish if it is installed, otherwise the built-in mini."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggish.common import choices
from vggish.embedders.installed import find_installed
from vggish.embedders.mini import MINI, find_mini
from vggish.errors import OptionError, WeightsError, WeightsNotInstalledError
from vggish.network.runtime import Embedder
from vggish.postprocess import Pca, load_pca


def load_embedder(
    name: str = "vggish",
    *,
    precision: choices.Precision = "float32",
    device: choices.Device = "auto",
) -> tuple[Embedder, Pca]:
    """Load an installed network and the PCA of its embeddings.

    `load_extractor` also loads the built-in mini, which has no PCA.

    Args:
        name: of the installed weights.
        precision: "float32" or "int8".
        device: "auto", "cpu" or "gpu", see `Embedder`.

    Raises:
        WeightsNotInstalledError: it is not installed; the message says how to install it.
        WeightsError: its files are damaged.
        OptionError: unknown name, precision or device.
    """
    installed = find_installed(name)
    choices.check_choice("precision", precision, choices.PRECISIONS)
    embedder = Embedder(
        installed.path(precision),
        name=name,
        weights_sha256=installed.checkpoint_sha256,
        model_sha256=installed.files[precision].sha256,
        precision=precision,
        device=device,
    )
    return embedder, load_pca(installed.path("pca"))


@dataclass(frozen=True)
class EmbedderChoice:
    """An embedder that was chosen, its precision, and why.

    `reason` says in one line why "auto" chose it, and how to get the other one; it is "" for an
    embedder chosen by name.
    """

    name: Literal["vggish", "mini"]
    precision: choices.Precision
    reason: str = ""

    def load(self, device: choices.Device = "auto") -> tuple[Embedder, Pca | None]:
        """Load the network and its PCA; mini has none, as its output is whitened already."""
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
    name: choices.EmbedderName = "auto", precision: choices.Precision | None = None
) -> EmbedderChoice:
    """Choose an embedder without loading it.

    "auto" chooses VGGish if it is installed and intact, and otherwise mini. A precision of None is
    VGGish's float32, or mini's only precision. If "auto" falls back to mini with another precision
    than requested, the reason says so.
    """
    choices.check_choice("embedder", name, choices.EMBEDDERS)
    if precision is not None:
        choices.check_choice("precision", precision, choices.PRECISIONS)
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
