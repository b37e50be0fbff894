"""Model card of a bundle, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vggish.common.wording import summarise_paths

_METRICS = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
_USE = """\
    audiotag classify clip.wav --model DIRECTORY

Scores are not calibrated probabilities of your recordings: choose thresholds on labelled clips of
your own (`audiotag evaluate --per-class`). Predictions of classes with few training clips are less
reliable.

    audiotag predict DIRECTORY --frames clips.tfrecord -o predictions.csv"""


def as_markdown(card: Mapping[str, Any]) -> str:
    """Format `bundle.json`: the head, its training data, its licence and its metrics."""
    head, metrics = card["head"], card["metrics"]
    members = head.get("members", [head])
    names = " + ".join(member["name"] for member in members)
    introduction = (
        f"A classifier head for audiotag ({names}), which maps frames of "
        f"{' or '.join(card['embedders'])} to scores of {card['n_classes']} classes. It has "
        f"{head['n_parameters']:,} parameters and was exported on {card['created']}."
    )
    settings = [
        f"- {member['name']}: " + ", ".join(f"{k} {v}" for k, v in member["settings"].items())
        for member in members
    ]
    sections = {
        "Training": "\n".join(_training(card["training"])),
        "Licence of the data": card["licence"] or "Not stated.",
        "Metrics": "\n".join(_metrics(metrics)),
        "Calibration": "\n".join(_calibration(metrics.get("calibration", {}))),
        "Notes": card["notes"],
        "Use": _USE,
    }
    text = [f"# {card['name']}", introduction, "\n".join(settings)]
    text += [f"## {title}\n\n{body}" for title, body in sections.items() if body]
    return "\n\n".join(text) + "\n"


def _training(trainings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for training in trainings:
        data, seed = training["data"], training["configuration"]["seed"]
        sources = ", ".join(f"`{source}`" for source in summarise_paths(data["sources"]))
        yield f"- {data['n_clips']:,} clips of {sources}; seed {seed}"
    configuration = json.dumps(trainings[0]["configuration"], indent=2, ensure_ascii=False)
    yield from ("", "```json", configuration, "```")


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    validation = metrics["validation"]
    names = [f"validation {i}" for i in range(1, len(validation) + 1)]
    rows = dict(zip(names if len(names) > 1 else ["validation"], validation, strict=False))
    if "evaluation" in metrics:
        rows = {"evaluation": metrics["evaluation"], **rows}
    measured = {name: row for name, row in rows.items() if row.get("mAP") is not None}
    if not measured:
        yield "Not measured: the head was trained on all clips."
        return
    header = ("clips", *_METRICS, "n_clips")
    table = [header, ("---",) * len(header)]
    for name, row in measured.items():
        values = ("" if (v := row.get(metric)) is None else f"{v:,.4f}" for metric in _METRICS)
        n_clips = row.get("n_clips")
        table.append((name, *values, "" if n_clips is None else f"{n_clips:,.0f}"))
    yield from ("| " + " | ".join(cells) + " |" for cells in table)


def _calibration(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for embedder, found in facts.items():
        yield (
            f"- frames of {embedder}: expected calibration error {found['ECE_before']:.4f} before, "
            f"{found['ECE_after']:.4f} after, on the {found['n_clips']:,} clips used to fit it"
        )
