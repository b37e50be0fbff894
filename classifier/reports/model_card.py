"""The card of a bundle, as people read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vggish.common.wording import summarise_paths

_SHOWN = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")


def as_markdown(card: Mapping[str, Any]) -> str:
    """`bundle.json` as Markdown: what the head is, on what it was trained, how good it is."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    head = card["head"]
    members = head.get("members", [head])
    yield f"# {card['name']}"
    yield ""
    kinds = " + ".join(member["name"] for member in members)
    yield (
        f"A head of audiotag, {kinds}: frames ({' or '.join(card['embedders'])}) in, scores of "
        f"{card['n_classes']} classes out. {head['n_parameters']:,} parameters. Made "
        f"{card['created']}."
    )
    yield ""
    for member in members:
        settings = ", ".join(f"{name} {value}" for name, value in member["settings"].items())
        yield f"- {member['name']}: {settings}"
    yield from _section("Trained on", _training(card["training"]))
    yield from _section("Licence of the data", [card["licence"] or "not stated"])
    yield from _section("How good it is", _metrics(card["metrics"]))
    if "calibration" in card["metrics"]:
        yield from _section("Calibration", _calibration(card["metrics"]["calibration"]))
    if card["notes"]:
        yield from _section("Notes", [card["notes"]])
    yield from _section(
        "Use",
        ["    audiotag classify clip.wav --model DIRECTORY", "",
         "The scores are no probabilities that a sound is there for certain: choose thresholds"
         " on clips of your own (`audiotag evaluate --per-class`). A class with few training"
         " clips is known little.", "",
         "    audiotag predict DIRECTORY --frames clips.tfrecord -o predictions.csv"],
    )  # fmt: skip


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", *lines)


def _training(trainings: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for training in trainings:
        data = training["data"]
        sources = ", ".join(f"`{source}`" for source in summarise_paths(data["sources"]))
        lines.append(f"- {data['n_clips']:,} clips of {sources}; seed {_seed(training)}")
    configuration = json.dumps(trainings[0]["configuration"], indent=2, ensure_ascii=False)
    return [*lines, "", "```json", configuration, "```"]


def _seed(training: Mapping[str, Any]) -> Any:
    return training["configuration"]["seed"]


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    validation = metrics["validation"]
    rows = [(f"validation {i}", found) for i, found in enumerate(validation, start=1)]
    if len(rows) == 1:
        rows = [("validation", validation[0])]
    if "evaluation" in metrics:
        rows.insert(0, ("evaluation", metrics["evaluation"]))
    measured = [(what, found) for what, found in rows if found.get("mAP") is not None]
    if not measured:
        return ["Not measured: it was trained on all clips."]
    head = ("clips", *_SHOWN, "n_clips")
    lines = [head, ("---",) * len(head)]
    for what, found in measured:
        values = (_number(found.get(name)) for name in _SHOWN)
        lines.append((what, *values, _number(found.get("n_clips"), 0)))
    return ["| " + " | ".join(line) + " |" for line in lines]


def _calibration(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"- frames of {embedder}: expected calibration error {found['ECE_before']:.4f} before, "
        f"{found['ECE_after']:.4f} after, on the {found['n_clips']:,} clips that it was fitted to"
        for embedder, found in facts.items()
    ]


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
