"""The heads in plain PyTorch, as a reference for the speed of training.

The attention heads follow the published code of their authors: frames as an image [B, D, T, 1] and
dense layers as 1 x 1 convolutions. `as_published=False` uses `nn.Linear` on [B, T, D] instead.
All clips have the same number of frames, so no head handles padding.

Source: the papers named in `classifier.heads`.
"""

# ruff: noqa: D102  (each class documents its `forward`)

from __future__ import annotations

import torch
from torch import Tensor, nn

from classifier.heads.settings import (
    DbofSettings,
    LogisticSettings,
    LstmMoeSettings,
    MoeSettings,
    PoolingSettings,
    RecurrentSettings,
    Settings,
    TransformerSettings,
)
from vggish.params import EMBEDDING_SIZE

# Probabilities are limited to [LEAST, 1 - LEAST] before they become logits.
LEAST = 1e-6


def build_torch_head(
    name: str, settings: Settings, n_classes: int, as_published: bool = True
) -> nn.Module:
    """Build a head as a module: dequantised frames float32 [B, T, 128] -> logits [B, C]."""
    match settings:
        case RecurrentSettings():
            return Recurrent(name, settings, n_classes)
        case PoolingSettings():
            return Pooling(name, settings, n_classes, as_published)
        case TransformerSettings():
            return Transformer(settings, n_classes)
        case LogisticSettings() | MoeSettings():
            return OfMean(settings, n_classes)
        case DbofSettings():
            return Dbof(settings, n_classes)
        case LstmMoeSettings():
            return LstmMoe(settings, n_classes)


class Norm(nn.Module):
    """Batch normalisation of [B, T, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, values: Tensor) -> Tensor:
        return self.norm(values.flatten(0, 1)).view_as(values)


def dense(n_in: int, n_out: int, as_image: bool, bias: bool = True) -> nn.Module:
    return nn.Conv2d(n_in, n_out, 1, bias=bias) if as_image else nn.Linear(n_in, n_out, bias)


def norm(width: int, as_image: bool) -> nn.Module:
    return nn.BatchNorm2d(width) if as_image else Norm(width)


def hidden_block(n_in: int, n_out: int, dropout: float, as_image: bool) -> nn.Sequential:
    return nn.Sequential(
        dense(n_in, n_out, as_image, bias=False),
        norm(n_out, as_image),
        nn.ReLU(),
        nn.Dropout(dropout),
    )


class FeatureAttention(nn.Module):
    """A weighted mean over time with separate weights for each feature, then a classifier."""

    def __init__(self, width: int, n_classes: int, dropout: float, as_image: bool = False) -> None:
        super().__init__()
        self.time = 2 if as_image else 1
        self.attention = dense(width, width, as_image)
        self.features = dense(width, width, as_image)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.final = nn.Linear(width, n_classes)

    def forward(self, values: Tensor) -> Tensor:
        weights = self.attention(values).sigmoid().clamp(1e-7, 1 - 1e-7)
        weights = weights / weights.sum(self.time, keepdim=True)
        pooled = (weights * self.features(values)).sum(self.time).flatten(1)
        return self.final(self.dropout(self.norm(pooled).relu()))


class ClassAttention(nn.Module):
    """A weighted mean of probabilities over time with separate weights for each class."""

    def __init__(self, width: int, n_classes: int, as_image: bool = False) -> None:
        super().__init__()
        self.time = 2 if as_image else 1
        self.weights = dense(width, n_classes, as_image)
        self.scores = dense(width, n_classes, as_image)

    def forward(self, values: Tensor) -> Tensor:
        weights = self.weights(values).softmax(self.time)
        return (weights * self.scores(values).sigmoid()).sum(self.time).flatten(1)


class Logit(nn.Module):
    """Conversion of probabilities to logits."""

    def forward(self, probabilities: Tensor) -> Tensor:
        return torch.logit(probabilities, LEAST)


class Pooling(nn.Module):
    """The heads average, max, attention, multi-level-attention and feature-attention."""

    def __init__(
        self, kind: str, settings: PoolingSettings, n_classes: int, as_published: bool
    ) -> None:
        super().__init__()
        self.kind, self.as_image, units = kind, as_published, settings.units
        self.norm = norm(EMBEDDING_SIZE, as_published)
        widths = [EMBEDDING_SIZE, *[units] * settings.layers]
        self.blocks = nn.ModuleList(
            hidden_block(n_in, units, settings.dropout, as_published) for n_in in widths[:-1]
        )
        if kind == "feature-attention":
            self.pool = FeatureAttention(units, n_classes, settings.dropout, as_published)
        elif kind == "attention":
            self.pool = ClassAttention(units, n_classes, as_published)
        elif kind == "multi-level-attention":
            self.levels = nn.ModuleList(
                ClassAttention(units, n_classes, as_published) for _ in self.blocks
            )
            self.final = nn.Linear(n_classes * settings.layers, n_classes)
        else:
            self.final = dense(units, n_classes, as_published)

    def forward(self, frames: Tensor) -> Tensor:
        values = frames.transpose(1, 2)[..., None].contiguous() if self.as_image else frames
        values, levels = self.norm(values), []
        for block in self.blocks:
            values = block(values)
            levels.append(values)
        if self.kind == "feature-attention":
            return self.pool(values)
        if self.kind == "attention":
            return torch.logit(self.pool(values), LEAST)
        if self.kind == "multi-level-attention":
            clips = [pool(level) for pool, level in zip(self.levels, levels, strict=True)]
            return self.final(torch.cat(clips, 1))
        time, logits = 2 if self.as_image else 1, self.final(values)
        if self.kind == "max":
            return logits.amax(time).flatten(1)
        return torch.logit(logits.sigmoid().mean(time).flatten(1), LEAST)


class Recurrent(nn.Module):
    """The heads gru and lstm."""

    def __init__(self, kind: str, settings: RecurrentSettings, n_classes: int) -> None:
        super().__init__()
        self.norm, width = Norm(EMBEDDING_SIZE), EMBEDDING_SIZE
        self.hidden: nn.Module = nn.Identity()
        if settings.dense:
            self.hidden = hidden_block(width, settings.dense, settings.dropout, False)
            width = settings.dense
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.recurrent = layer(
            width,
            settings.units,
            settings.layers,
            batch_first=True,
            bidirectional=settings.bidirectional,
        )
        self.dropout = nn.Dropout(settings.dropout)
        width = settings.units * (2 if settings.bidirectional else 1)
        self.takes_last = settings.pooling == "last"
        self.pool = pooling(settings.pooling, width, n_classes, settings.dropout)

    def forward(self, frames: Tensor) -> Tensor:
        values, _ = self.recurrent(self.hidden(self.norm(frames)))
        return self.pool(self.dropout(values[:, -1] if self.takes_last else values))


def pooling(kind: str, width: int, n_classes: int, dropout: float) -> nn.Module:
    if kind == "last":
        return nn.Linear(width, n_classes)
    if kind == "feature-attention":
        return FeatureAttention(width, n_classes, dropout)
    return nn.Sequential(ClassAttention(width, n_classes), Logit())


class Transformer(nn.Module):
    """The head transformer: encoder blocks with pre-normalisation, then attention."""

    def __init__(self, settings: TransformerSettings, n_classes: int) -> None:
        super().__init__()
        units, dropout = settings.units, settings.dropout
        self.norm = Norm(EMBEDDING_SIZE)
        self.input = nn.Linear(EMBEDDING_SIZE, units)
        self.blocks = nn.ModuleList(
            Block(units, settings.attention_heads, dropout) for _ in range(settings.layers)
        )
        self.output_norm, self.dropout = nn.LayerNorm(units), nn.Dropout(dropout)
        self.pool = pooling(settings.pooling, units, n_classes, dropout)

    def forward(self, frames: Tensor) -> Tensor:
        values = self.input(self.norm(frames))
        values = values + positions(values.shape[1], values.shape[2])
        for block in self.blocks:
            values = block(values)
        return self.pool(self.dropout(self.output_norm(values)))


class Block(nn.Module):
    """An encoder block: self-attention and two dense layers."""

    def __init__(self, units: int, attention_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(units), nn.LayerNorm(units)
        self.attention = nn.MultiheadAttention(units, attention_heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Sequential(
            nn.Linear(units, 2 * units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * units, units),
            nn.Dropout(dropout),
        )

    def forward(self, values: Tensor) -> Tensor:
        normed = self.norm1(values)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        values = values + self.dropout(attended)
        return values + self.dense(self.norm2(values))


def positions(n_frames: int, width: int) -> Tensor:
    angles = torch.arange(n_frames)[:, None] * 10_000.0 ** (-2 * torch.arange(width // 2) / width)
    return torch.cat([angles.sin(), angles.cos()], 1)


class Mixture(nn.Module):
    """A mixture for each class, with gates over experts and a dummy expert that scores 0."""

    def __init__(self, width: int, n_classes: int, mixtures: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.gates = nn.Linear(width, n_classes * (mixtures + 1), bias=False)
        self.experts = nn.Linear(width, n_classes * mixtures)

    def forward(self, values: Tensor) -> Tensor:
        gates = self.gates(values).unflatten(1, (self.n_classes, -1)).softmax(-1)
        experts = self.experts(values).unflatten(1, (self.n_classes, -1)).sigmoid()
        return torch.logit((gates[..., :-1] * experts).sum(-1), LEAST)


class OfMean(nn.Module):
    """The heads logistic, moe and frame-logistic: classifiers of the mean frame."""

    def __init__(self, settings: LogisticSettings | MoeSettings, n_classes: int) -> None:
        super().__init__()
        self.classify: nn.Module = nn.Linear(EMBEDDING_SIZE, n_classes)
        if isinstance(settings, MoeSettings):
            self.classify = Mixture(EMBEDDING_SIZE, n_classes, settings.mixtures)

    def forward(self, frames: Tensor) -> Tensor:
        return self.classify(nn.functional.normalize(frames.mean(1), dim=-1))


class Dbof(nn.Module):
    """The head dbof: sampled frames to clusters, pooling, a hidden layer, then a mixture."""

    def __init__(self, settings: DbofSettings, n_classes: int) -> None:
        super().__init__()
        self.n_sampled = settings.sampled_frames
        self.clusters = nn.Sequential(
            Norm(EMBEDDING_SIZE),
            nn.Linear(EMBEDDING_SIZE, settings.clusters, bias=False),
            Norm(settings.clusters),
            nn.Sigmoid(),
        )
        self.hidden = nn.Sequential(
            nn.Linear(settings.clusters, settings.hidden, bias=False),
            nn.BatchNorm1d(settings.hidden),
            nn.Sigmoid(),
        )
        self.mixture = Mixture(settings.hidden, n_classes, settings.mixtures)

    def forward(self, frames: Tensor) -> Tensor:
        frames = nn.functional.normalize(frames, dim=-1)
        drawn = torch.randint(frames.shape[1], (len(frames), self.n_sampled))
        frames = frames[torch.arange(len(frames))[:, None], drawn]
        return self.mixture(self.hidden(self.clusters(frames).amax(1)))


class LstmMoe(nn.Module):
    """The head lstm-moe: stacked LSTMs, the last state, then a mixture."""

    def __init__(self, settings: LstmMoeSettings, n_classes: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(EMBEDDING_SIZE, settings.units, settings.layers, batch_first=True)
        self.mixture = Mixture(settings.units, n_classes, settings.mixtures)

    def forward(self, frames: Tensor) -> Tensor:
        values, _ = self.recurrent(nn.functional.normalize(frames, dim=-1))
        return self.mixture(values[:, -1])
