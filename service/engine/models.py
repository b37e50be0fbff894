"""The models that the service has loaded; they are reloaded when their files change."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
from vggish.embedders.choice import find_embedder
from vggish.errors import OptionError
from vggish.extractor import EmbedOptions, Extractor
from vggish.network.runtime import PatchEmbedder
from vggish.params import SAMPLE_RATE_HZ
from vggish.postprocess import Pca

# Identifies the versions of files: device, inode, size, times.
Stamp = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Network:
    """An embedder and its PCA, shared by all models that use it."""

    embedder: PatchEmbedder
    pca: Pca | None

    def extractor(self, options: EmbedOptions | None = None) -> Extractor:
        """Make an extractor: audio -> frames."""
        return Extractor(self.embedder, self.pca, options)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model, for any thread. A request keeps using its model when that is reloaded."""

    tagger: Tagger
    network: Network
    source: str  # directory of the bundle, or the name of one that comes with audiotag
    stamp: Stamp

    @property
    def bundle(self) -> Bundle:
        """Its bundle: head and labels."""
        return self.tagger.bundle


class Models:
    """All models by name, loaded as configured; the first one is the default.

    `wrap` is applied to each embedder. Raises BundleError, WeightsError or OptionError.
    """

    def __init__(
        self, config: ServiceConfig, wrap: Callable[[PatchEmbedder], PatchEmbedder]
    ) -> None:
        self._config, self._wrap = config, wrap
        self._networks: dict[str, Network] = {}
        self._reloading = threading.Lock()
        # Stamps of files that could not be loaded, so that this is logged once.
        self._refused: dict[str, Stamp] = {}
        models = [self._load(source) for source in config.models]
        self._by_name = {model.bundle.name: model for model in models}
        if len(self._by_name) < len(models):
            names = [model.bundle.name for model in models]
            raise OptionError(f"each model must have a unique name. Received: {quoted(names)}")
        self._default = models[0].bundle.name

    def get(self, name: str | None = None) -> Model:
        """Get a model by name, None for the default; raise Problem if there is none."""
        try:
            return self._by_name[self._default if name is None else name]
        except KeyError:
            raise Problem(
                "unknown-model",
                f"there is no model {str(name)[:64]!r}; available: {quoted(self._by_name)}",
                models=list(self._by_name),
            ) from None

    def reload_changed(self, *, retry: bool = False) -> dict[str, Exception | None]:
        """Reload the models whose files have changed; one that cannot be loaded is kept.

        With `retry`, this includes files that could not be loaded and have not changed since.
        Return the names of the models that changed, each with the error of a failed reload.
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
        described = []
        for model in self._by_name.values():
            bundle = model.bundle
            each = ServiceModel(
                **bundle.provenance,
                default=bundle.name == self._default,
                n_classes=len(bundle.labels),
                clip_frames=bundle.clip_frames,
                has_frame_scores=bundle.has_frame_scores,
                embedders=tuple(bundle.card["embedders"]),
                embedder=model.tagger.extractor.embedder.provenance,
            )
            described.append(each)
        return ServiceModels(tuple(described))

    def _reload(self, name: str, source: str, stamp: Stamp) -> Exception | None:
        try:
            model = self._load(source)
            if model.bundle.name != name:
                new_name = model.bundle.name
                raise OptionError(
                    f"the bundle {source} has a new name, {new_name!r}; it was {name!r}"
                )
        except Exception as error:  # any error: the loaded model is kept, the others are checked
            self._refused[name] = stamp
            return error
        self._refused.pop(name, None)
        self._by_name[name] = model
        return None

    def _load(self, source: str) -> Model:
        # Before they are read: files that change meanwhile are loaded again.
        stamp = _stamp(find_bundle(Path(source)))
        bundle = load(source)
        network = self._network(bundle)
        tagger = Tagger(bundle, network.extractor())
        # The first clip takes longer than all others, so it should not be a client's.
        tagger.tag(np.zeros(SAMPLE_RATE_HZ, np.float32), sample_rate=SAMPLE_RATE_HZ)
        return Model(tagger, network, source, stamp)

    def _network(self, bundle: Bundle) -> Network:
        chosen = choose_embedder(bundle, self._config.embedder)
        choice = find_embedder(chosen, self._config.precision)
        if choice.name not in self._networks:
            embedder, pca = choice.load(self._config.device)
            self._networks[choice.name] = Network(self._wrap(embedder), pca)
        return self._networks[choice.name]


def _stamp(directory: Path) -> Stamp:
    stamps: list[tuple[int, ...]] = []
    for name in (CARD_FILE, LABELS_FILE, HEAD_FILE):
        try:
            status = (directory / name).stat()
        except OSError:
            stamps.append((0,))
        else:
            times = (status.st_mtime_ns, status.st_ctime_ns)
            stamps.append((status.st_dev, status.st_ino, status.st_size, *times))
    return tuple(stamps)
