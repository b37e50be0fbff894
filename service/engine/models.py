"""The models that are served: loaded once, loaded anew when their files change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.bundles.bundle import Bundle, load
from classifier.bundles.files import find_bundle, quoted
from classifier.names import CARD_FILE, HEAD_FILE, LABELS_FILE
from classifier.tagger import Tagger, choose_embedder
from service.documents import ServiceModel, ServiceModels
from service.problems import Problem
from service.settings.config import ServiceConfig
from vggish.embedders.choice import choose, load as load_embedder
from vggish.errors import OptionError
from vggish.extractor import EmbedOptions, Extractor
from vggish.network.runtime import PatchEmbedder
from vggish.params import SAMPLE_RATE_HZ
from vggish.postprocess import Pca

# Puts batching around an embedder.
Wrap = Callable[[PatchEmbedder], PatchEmbedder]

# What tells that a file is another one: device, inode, size, time.
Stamp = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Network:
    """An embedder and the PCA of its space, shared by all models that use it."""

    embedder: PatchEmbedder
    pca: Pca | None

    def extractor(self, options: EmbedOptions | None = None) -> Extractor:
        """Sound -> frames."""
        return Extractor(self.embedder, self.pca, options)


@dataclass(frozen=True, eq=False)
class Model:
    """A model as it is served; a request keeps the one that it began with.

    Attributes:
        tagger: safe to call from several threads.
        network: that makes its frames.
        source: where it was loaded from: a directory, or a name that audiotag knows.
        stamp: of the files that it was loaded from.
    """

    tagger: Tagger
    network: Network
    source: str
    stamp: Stamp

    @property
    def bundle(self) -> Bundle:
        """Its head and labels."""
        return self.tagger.bundle


class Models:
    """All models by name; the first one is the default.

    Args:
        config: says which.
        wrap: what is put around each embedder.

    Raises:
        BundleError: a bundle is absent, damaged, or not made for the embedder.
        WeightsError: the embedder is not installed, or damaged.
        OptionError: two models have the same name.
    """

    def __init__(self, config: ServiceConfig, wrap: Wrap) -> None:
        self._config = config
        self._wrap = wrap
        self._networks: dict[str, Network] = {}
        self._reloading = threading.Lock()
        # Stamps of what could not be loaded, so that it is told once.
        self._refused: dict[str, Stamp] = {}
        models = [self._load(source) for source in config.models]
        self._by_name = {model.bundle.name: model for model in models}
        if len(self._by_name) < len(models):
            names = [model.bundle.name for model in models]
            raise OptionError(f"each model must have a name of its own. Received: {quoted(names)}")
        self._default = models[0].bundle.name

    def get(self, name: str | None = None) -> Model:
        """A model by its name; None for the default.

        Raises:
            Problem: there is none of this name.
        """
        try:
            return self._by_name[self._default if name is None else name]
        except KeyError:
            raise Problem(
                "unknown-model",
                f"there is no model {str(name)[:64]!r}; there are: {quoted(self._by_name)}",
                models=list(self._by_name),
            ) from None

    def all(self) -> Sequence[Model]:
        """The default first."""
        return list(self._by_name.values())

    def reload_changed(self, *, retry: bool = False) -> dict[str, Exception | None]:
        """Load anew what has other files than before; one that cannot be loaded stays as it was.

        Args:
            retry: also try files again that could not be loaded and have not changed since.

        Returns:
            The models that changed, each with what kept it from being loaded, if anything did.
        """
        results: dict[str, Exception | None] = {}
        with self._reloading:
            for name, model in list(self._by_name.items()):
                stamp = _stamp(model.bundle.directory)
                if stamp == model.stamp or (stamp == self._refused.get(name) and not retry):
                    continue
                results[name] = self._reload(name, model.source, stamp)
        return results

    def describe(self) -> ServiceModels:
        """Describe all models, the default one first."""
        return ServiceModels(tuple(map(self._description, self.all())))

    def _reload(self, name: str, source: str, stamp: Stamp) -> Exception | None:
        try:
            model = self._load(source)
            if model.bundle.name != name:
                raise OptionError(
                    f"the bundle {source} is called {model.bundle.name!r} now; it was {name!r}"
                )
        except Exception as error:  # whatever it is, the old one stays and the next is looked at
            self._refused[name] = stamp
            return error
        self._refused.pop(name, None)
        self._by_name[name] = model
        return None

    def _load(self, source: str) -> Model:
        # Of the files as they are now: what changes while they are read is loaded again.
        stamp = _stamp(find_bundle(Path(source)))
        bundle = load(source)
        network = self._network(bundle)
        tagger = Tagger(bundle, network.extractor())
        # The first sound takes longer than all others; it should not be a client's.
        tagger.tag(np.zeros(SAMPLE_RATE_HZ, np.float32), sample_rate=SAMPLE_RATE_HZ)
        return Model(tagger, network, source, stamp)

    def _network(self, bundle: Bundle) -> Network:
        chosen = choose_embedder(bundle, self._config.embedder)
        name = choose(chosen, self._config.precision).name
        if name not in self._networks:
            embedder, pca = load_embedder(
                name, precision=self._config.precision, device=self._config.device
            )
            self._networks[name] = Network(self._wrap(embedder), pca)
        return self._networks[name]

    def _description(self, model: Model) -> ServiceModel:
        bundle = model.bundle
        return ServiceModel(
            **bundle.provenance,
            default=bundle.name == self._default,
            n_classes=len(bundle.labels),
            clip_frames=bundle.clip_frames,
            has_frame_scores=bundle.has_frame_scores,
            embedders=tuple(bundle.card["embedders"]),
            embedder=model.tagger.extractor.embedder.provenance,
        )


def _stamp(directory: Path) -> Stamp:
    stamps: list[tuple[int, ...]] = []
    for name in (CARD_FILE, LABELS_FILE, HEAD_FILE):
        try:
            status = (directory / name).stat()
        except OSError:
            stamps.append((0,))
            continue
        times = (status.st_mtime_ns, status.st_ctime_ns)
        stamps.append((status.st_dev, status.st_ino, status.st_size, *times))
    return tuple(stamps)
