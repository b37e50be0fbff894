"""Train and evaluate the heads of `recipes/audioset.md` with the command line.

    python recipes/audioset.py --train DIR --eval DIR --work DIR [--only NAME ...]

--train is a directory of AudioSet's released features of the balanced training set, --eval of the
evaluation set (TFRecords). Runs are written to --work; finished ones are kept, and interrupted ones
are resumed. The table in `recipes/audioset.md` and the bundles in `weights/` are rewritten from the
runs that exist.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "recipes" / "audioset.md"
LICENCE = "CC BY 4.0 (AudioSet features by Google; the labels too)"
METRICS = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


@dataclass(frozen=True)
class Recipe:
    """The options of `audiotag train` for one head.

    Attributes:
        name: name of the run.
        options: options besides the data.
        note: remark below the table.
        head: value of --head, if it differs from the name.
    """

    name: str
    options: str
    note: str = ""
    head: str = ""


_FAST = "--precision bfloat16"

RECIPES = (
    Recipe("gru", f"--epochs 8 {_FAST}"),
    Recipe("transformer", f"--epochs 8 {_FAST}"),
    Recipe(
        "transformer-small",
        f"--epochs 8 --set units=256 {_FAST}",
        "a quarter of the size, for `weights/audioset-best`",
        head="transformer",
    ),
    Recipe("lstm", f"--epochs 8 {_FAST}"),
    Recipe("logistic", "--epochs 20 --learning-rate 0.01"),
    Recipe("frame-logistic", "--epochs 20 --learning-rate 0.01"),
    Recipe("moe", "--epochs 8 --learning-rate 0.01"),
    Recipe("feature-attention", f"--epochs 12 --batch-size 256 {_FAST}"),
    Recipe(
        "lstm-moe",
        f"--epochs 5 --set units=512 {_FAST}",
        "512 units instead of the published 1,024, to save time",
    ),
    Recipe("attention", f"--epochs 8 --batch-size 256 {_FAST}"),
    Recipe("average", f"--epochs 8 --batch-size 256 {_FAST}"),
    Recipe("max", f"--epochs 8 --batch-size 256 {_FAST}"),
    Recipe("multi-level-attention", f"--epochs 8 --batch-size 256 {_FAST}"),
    Recipe(
        "dbof",
        f"--epochs 5 --set clusters=2048 {_FAST}",
        "2,048 clusters instead of the published 8,192, to save time",
    ),
)

ENSEMBLE = ("transformer", "gru", "lstm")
SHIPPED = {"audioset-gru": ("gru",), "audioset-best": ("transformer-small",)}


def main() -> None:
    """Train, evaluate and export all heads, and write the table."""
    options = _parse()
    work = options.work.resolve()
    (work / "data").mkdir(parents=True, exist_ok=True)
    # Model cards record these names of the data, which do not depend on the machine.
    for name, source in (("bal_train", options.train), ("eval", options.eval)):
        link = work / "data" / name
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve())
    for recipe in RECIPES:
        if options.only is None or recipe.name in options.only:
            _train(work, recipe)
            _evaluate(work, recipe.name)
    finished = [recipe for recipe in RECIPES if _metrics_file(work, recipe.name).exists()]
    members = [name for name in ENSEMBLE if _metrics_file(work, name).exists()]
    if len(members) == len(ENSEMBLE):
        _export(work, "ensemble", members, work / "runs" / "ensemble" / "bundle")
        _evaluate(work, "ensemble")
    for name, runs in SHIPPED.items():
        if all(_metrics_file(work, run).exists() for run in runs):
            metrics = _metrics_file(work, runs[0])
            more = ("--float16", "--metrics", metrics, "--embedders", "vggish", "mini")
            _export(work, name, runs, ROOT / "weights" / name, *more)
    text = TABLE.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    TABLE.write_text(f"{before}{BEGIN}\n{_table(work, finished)}\n{END}{after}", "utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, what in (
        ("--train", "released features of AudioSet's balanced training set"),
        ("--eval", "released features of AudioSet's evaluation set"),
        ("--work", "directory for the runs"),
    ):
        parser.add_argument(option, type=Path, required=True, metavar="DIR", help=what)
    parser.add_argument(
        "--only", nargs="+", choices=[recipe.name for recipe in RECIPES],
        help="train and evaluate only these heads",
    )  # fmt: skip
    return parser.parse_args()


def _train(work: Path, recipe: Recipe) -> None:
    run = Path("runs") / recipe.name
    if (work / run / "metrics.json").exists():
        return
    resume = ["--resume"] if (work / run / "config.json").exists() else []
    command = ["train", "--frames", "data/bal_train", "-o", str(run), "--val-share", "0"]
    command += ["--head", recipe.head or recipe.name]
    _audiotag(work, *command, *recipe.options.split(), "--licence", LICENCE, *resume)


def _evaluate(work: Path, name: str) -> None:
    if _metrics_file(work, name).exists():
        return
    bundle = Path("runs") / name / "bundle"
    text = _audiotag(work, "evaluate", str(bundle), "--frames", "data/eval", "--json", read=True)
    _metrics_file(work, name).write_text(text, "utf-8")


def _export(work: Path, name: str, runs: Sequence[str], directory: Path, *more: str | Path) -> None:
    sources = [str(Path("runs") / run) for run in runs]
    command = ["export", *sources, "-o", str(directory), "--name", name, "--licence", LICENCE]
    _audiotag(work, *command, "--overwrite", *map(str, more))


def _audiotag(work: Path, *arguments: str, read: bool = False) -> str:
    print(f"$ audiotag {' '.join(arguments)}", flush=True)
    command = shutil.which("audiotag", path=str(Path(sys.executable).parent)) or "audiotag"
    done = subprocess.run(
        [command, *arguments], cwd=work, check=True, text=True,
        stdout=subprocess.PIPE if read else None,
    )  # fmt: skip
    return done.stdout or ""


def _metrics_file(work: Path, name: str) -> Path:
    return work / f"{name}.eval.json"


def _table(work: Path, recipes: Sequence[Recipe]) -> str:
    """Return the Markdown table with one row for each head, the best first."""
    rows = []
    for recipe in recipes:
        card = json.loads((work / "runs" / recipe.name / "bundle" / "bundle.json").read_text())
        with open(work / "runs" / recipe.name / "curves.csv", encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
        rate = float(last["examples"]) / float(last["seconds"])
        n = card["head"]["n_parameters"] / 1e6
        rows.append(_row(work, recipe.name, recipe.options, f"{n:.2f}", f"{rate:,.0f}"))
    rows.sort(key=lambda row: row[1], reverse=True)
    if _metrics_file(work, "ensemble").exists():
        members = " + ".join(ENSEMBLE)
        rows.insert(0, _row(work, "ensemble", f"mean of {members}", "", ""))
    head = ("head", *METRICS, "parameters (M)", "examples/s", "options")
    lines = [head, ("---",) * len(head), *rows]
    notes = [f"- {recipe.name}: {recipe.note}" for recipe in recipes if recipe.note]
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", *notes])


def _row(work: Path, name: str, options: str, n: str, rate: str) -> tuple[str, ...]:
    metrics = json.loads(_metrics_file(work, name).read_text("utf-8"))
    return (name, *(f"{metrics[metric]:.4f}" for metric in METRICS), n, rate, f"`{options}`")


if __name__ == "__main__":
    main()
