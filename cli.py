"""The command line: classify, embed, serve, train, evaluate, predict, export, inspect, weights.

Everything heavy is imported by the command that needs it: `audiotag --help` loads neither
numpy nor a runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import hashlib
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from classifier.wording import count as _count
from classifier.wording import located, score
from classifier.wording import printable as _printable
from vggish.errors import (
    AudioError,
    AudiotagError,
    FrameFileError,
    OptionError,
    ServiceError,
    ServiceUnreachableError,
    unwritable_as,
)
from vggish.params import PATCH_SECONDS, VERSION

if TYPE_CHECKING:
    from classifier.clip_store import ClipStore
    from classifier.clip_tags import ClipTags
    from classifier.config import TrainingConfig
    from classifier.evaluation import Evaluation
    from classifier.fit import Fitted, LabelledClips
    from classifier.labels import Labels
    from classifier.live import LiveTags
    from classifier.records import ReadReport
    from classifier.tag_output import Content
    from classifier.tag_tables import Look
    from classifier.tagger import Tagger
    from classifier.train import Progress
    from vggish.batch import Destination, Failure, Report
    from vggish.extractor import Extractor
    from vggish.extractor import Progress as Heard
    from vggish.frames import ClipFrames
    from vggish.inputs import Inputs, Item
    from vggish.runtime import Precision
    from vggish.weights import InstalledWeights

    Sound = str | bytes
    Listen = Callable[[Sound, Heard | None], ClipTags]

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
# Up to so many outputs are named one by one on a terminal or in a log.
MAX_OUTPUTS_NAMED = 10
STDOUT = "-"
DEFAULT_JOBS = 2

_FORMATS = ("npz", "csv", "parquet", "jsonl", "tfrecord")
_EMBEDDERS = ("auto", "vggish", "mini")

_EMBED_EPILOG = """\
examples:
  audiotag embed clip.wav                       writes clip.npz here
  audiotag embed sounds/ --out-dir frames       one .npz each, in the same tree
  audiotag embed 'data/**/*.flac' -o all.csv    one file for all
  audiotag embed sounds/ -o all.tfrecord --hop 1
                                                rows advance 1 s, as AudioSet's
  audiotag embed sounds/ --out-dir frames --resume
                                                go on with a run that was killed
  ffmpeg -i film.mkv -f wav - | audiotag embed - -o film.csv

exit status:
  0 all embedded    1 some inputs failed    2 nothing could be done
  130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """A parser that says what to do about files whose names look like options."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        odd = [name for name in self._given if name.startswith("-") and os.path.exists(name)]
        if odd:
            message += f"\n{odd[0]} is a file; write ./{odd[0]} (or ./* for *)"
        super().error(_printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="audiotag", description="Sound in, tags out: VGGish embeddings and what they say."
    )
    parser.add_argument("--version", action="version", version=f"audiotag {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_classify(commands)
    _add_embed(commands)
    _add_serve(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_inspect(commands)
    _add_weights(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    options = build_parser().parse_args(arguments)
    # What it says of its caches and fonts is between our lines, and of no use to who reads them.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    _heed_termination()
    status: int = EXIT_OK
    try:
        status = options.run(options)
        _flush_stdout()
    except BrokenPipeError:
        _mute_stdout()
    except KeyboardInterrupt as interrupt:
        print(f"\naudiotag: interrupted{interrupt}", file=sys.stderr)
        status = EXIT_INTERRUPTED if not isinstance(interrupt, _Terminated) else interrupt.status
    except Exception as error:
        if options.debug:
            raise
        print(_printable(f"audiotag: error: {_explained(error)}"), file=sys.stderr)
        status = EXIT_USAGE
    return status


class _Terminated(KeyboardInterrupt):
    """The process was asked to end (`docker stop`, a closed terminal): as Ctrl-C, tidily."""

    status = EXIT_INTERRUPTED


def _heed_termination() -> None:
    def terminate(number: int, frame: object) -> None:
        terminated = _Terminated()
        terminated.status = 128 + number
        raise terminated

    if threading.current_thread() is not threading.main_thread():
        return  # only there can signals be handled
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # What a parent asked to ignore (nohup) stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)


def _flush_stdout() -> None:
    """Write what is still buffered while an error can be reported in words."""
    with _stdout_errors():
        if sys.stdout is not None:  # as after `>&-`
            sys.stdout.flush()


@contextlib.contextmanager
def _stdout_errors() -> Iterator[None]:
    """Around writing to standard output: say what could not be written."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has had enough; that is not an error
    except OSError as error:
        _mute_stdout()
        reason = error.strerror or error
        raise FrameFileError(f"cannot write to standard output: {reason}") from error


def _print_result(text: str) -> None:
    """Print what a command is for."""
    with _stdout_errors():
        print(text, flush=True)


def _need_stdout() -> None:
    """Raise before the work if what it gives could not be shown."""
    if sys.stdout is None:
        raise OptionError("standard output is closed, and this command writes what it finds there")


def _mute_stdout() -> None:
    """Let go of a standard output that takes no more; at exit Python would complain of it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _explained(error: Exception) -> str:
    if isinstance(error, (AudiotagError, OSError)):
        return str(error)
    kind = type(error).__name__
    return f"unexpected {kind}: {error} (please report it, with the output of --debug)"


def _add_common(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--quiet", "-q", action="store_true", help="only errors on stderr")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")


# --- audiotag classify -------------------------------------------------------------------


_CLASSIFY_EPILOG = """\
examples:
  audiotag classify clip.wav                    what is heard, and when
  audiotag classify sounds/ --csv -o tags.csv   file,label,mid,index,score
  audiotag classify clip.wav --json --frames    what is heard in each 0.96 s
  audiotag classify clip.wav -o clip.srt        subtitles; --audacity, --raven: other tracks
  audiotag classify sounds/ --srt --out-dir d   one file each, in the same tree
  audiotag classify clip.wav --plot clip.png    waveform, log-mel and tags over time
  audiotag classify clip.wav --labels Dog --labels Cat
  audiotag classify sounds/ --model runs/mine   with a head of your own
  audiotag classify --live                      the microphone, until Ctrl-C
  audiotag classify sounds/ --server http://tags.example:8000
  ffmpeg -i film.mkv -f wav - | audiotag classify -

A sound longer than the clips that the model was trained on (10 s for AudioSet's) is listened to
in windows of that length; a tag's score is that of the window where it is heard best.
The times are those where a tag has at least half of its highest score.

exit status:
  0 all classified    1 some inputs failed    2 nothing could be done
  130 interrupted
"""


def _add_classify(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "classify",
        usage="audiotag classify INPUT ... [options]",
        help="sound files -> what is heard in them, and when",
        description="Say what is heard in sounds, and when.",
        epilog=_CLASSIFY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(parser)
    live = parser.add_argument_group("microphone")
    live.add_argument(
        "--live", action="store_true", help="listen to the microphone: a line each 0.96 s"
    )
    live.add_argument(
        "--live-device", metavar="NAME", help="which one, by number or words of its name"
    )
    how = parser.add_argument_group("method")
    how.add_argument(
        "--model",
        metavar="BUNDLE",
        help="a bundle, a run, or one that comes with audiotag (default: audioset)",
    )
    how.add_argument(
        "--embedder",
        choices=_EMBEDDERS,
        default="auto",
        help="auto (default) takes the one that the model is made for, and VGGish before mini",
    )
    how.add_argument(
        "--precision", choices=("float32", "int8"), help="of VGGish (default: float32)"
    )
    _add_device(how)
    _add_force(how)
    how.add_argument(
        "--server", metavar="URL",
        help="let an audiotag service do it; --model names one of its models. The sounds are "
        "sent there, with a key from --api-key-file or AUDIOTAG_API_KEY",
    )  # fmt: skip
    how.add_argument("--api-key-file", metavar="FILE", help="holds the key for --server")
    what = parser.add_argument_group("what is told")
    what.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="at most so many tags (default 5)"
    )
    what.add_argument(
        "--threshold", type=float, default=0.0, metavar="X",
        help="only tags with at least this score, from 0 to 1 (default 0)",
    )  # fmt: skip
    what.add_argument(
        "--labels", action="append", metavar="NAME",
        help="only this class, by name or AudioSet id; may be repeated",
    )  # fmt: skip
    what.add_argument(
        "--exclude-labels", action="append", metavar="NAME", help="not this class; may be repeated"
    )
    what.add_argument(
        "--frames", action="store_true", help="in JSON and CSV: the tags of each 0.96 s"
    )
    what.add_argument(
        "--segments", action="store_true",
        help="when each tag is heard: in JSON besides, in CSV and tables a row a span",
    )  # fmt: skip
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o", "--out", metavar="FILE",
        help="write there (.csv, .json, .jsonl, .srt, .selections.txt, .txt)",
    )  # fmt: skip
    out.add_argument(
        "--out-dir", metavar="DIR", help="one file per input, in the tree of the inputs"
    )
    kind = out.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="JSON; of several files, a line each")
    kind.add_argument("--csv", action="store_true", help="CSV, a row a tag")
    kind.add_argument("--srt", action="store_true", help="subtitles, for players")
    kind.add_argument("--audacity", action="store_true", help="an Audacity label track")
    kind.add_argument("--raven", action="store_true", help="a Raven Pro selection table")
    out.add_argument(
        "--plot", metavar="PNG",
        help="draw it, too (.png, .svg, .pdf); of several inputs, a directory for the pictures",
    )  # fmt: skip
    _add_common(parser)
    parser.set_defaults(run=_run_classify)


def _run_classify(options: argparse.Namespace) -> int:
    from classifier.choice import Choice
    from vggish.inputs import find_inputs

    Choice(options.top_k, options.threshold)
    if options.live:
        return _run_live(options)
    if options.out in ("/dev/stdout", "/dev/fd/1"):
        options.out = STDOUT  # where that leads to a file, it is not to be replaced
    names = _names_of_inputs(options)
    content = _classify_content(options)
    inputs = find_inputs(names)
    _check_classify_outputs(options, inputs, content)
    with contextlib.ExitStack() as stack:
        listen = (_near_ear if options.server is None else _far_ear)(options, content, stack)
        failures = _classify_each(options, listen, inputs, content)
    for directory, reason in inputs.unreadable:
        print(_printable(f"audiotag: error: cannot search {directory}: {reason}"), file=sys.stderr)
    if inputs.skipped:
        _report(options, f"note: {_count(len(inputs.skipped), 'file')} not taken for sound")
    return EXIT_SOME_FAILED if failures or inputs.unreadable else EXIT_OK


def _classify_content(options: argparse.Namespace) -> Content:
    """What is written of each sound: as an option says, or the suffix of -o."""
    from classifier.tag_output import SUFFIXES, Content, format_of

    found = next((kind for kind in SUFFIXES if getattr(options, kind, False)), None)
    if found is None:
        found = "table" if options.out is None else format_of(options.out)
    if options.frames and found not in ("json", "csv"):
        raise OptionError("--frames needs --json or --csv; the table says when each tag is heard")
    if options.frames and options.segments and found == "csv":
        raise OptionError("a CSV has rows of --frames or of --segments; --json holds both")
    for option, needed in (("live_device", "live"), ("api_key_file", "server")):
        if getattr(options, option) is not None and not getattr(options, needed):
            raise OptionError(f"{_flag(option)} is for --{needed}, which is missing")
    return Content(found, options.frames, options.segments)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_classify_outputs(options: argparse.Namespace, inputs: Inputs, content: Content) -> None:
    """Raise before the work if what is to be written cannot be, or would replace an input."""
    from classifier.tag_output import TRACKS_OF_ONE

    n_sounds, out = len(inputs.items), options.out
    _refuse_both_places(options)
    if options.out_dir is None:
        if out in (None, STDOUT):
            _need_stdout()
        elif out.endswith(("/", os.sep)):
            raise OptionError(f"-o {out} names a directory; use --out-dir for one file per input")
    elif not options.out_dir:
        raise OptionError("--out-dir must name a directory. Received: ''")
    elif os.path.isfile(options.out_dir):
        raise OptionError(f"cannot write --out-dir {options.out_dir}: it is a file")
    if options.out_dir is None and content.file_format in TRACKS_OF_ONE and n_sounds > 1:
        raise OptionError(
            f"a label track ({content.file_format}) is of one sound, and here are {n_sounds}: use "
            "--out-dir DIR for one each"
        )
    read = [item.source for item in inputs.items]
    read += [] if options.files_from is None else [options.files_from]
    pictures = {item.source: _picture_of(options, item, n_sounds) for item in inputs.items}
    outputs: list[tuple[str, str | Path | None]] = [("-o", out)]
    outputs += [("--plot", picture) for picture in pictures.values()]
    if options.out_dir is not None:
        outputs += [("--out-dir", _text_file_of(options, item, content)) for item in inputs.items]
    _refuse_overwriting(outputs, read)
    if options.out_dir is not None and not os.path.isdir(options.out_dir):
        _check_writable(Path(options.out_dir) / "x", "--out-dir")
    if out not in (None, STDOUT):
        _check_writable(Path(out), "-o")
    if options.plot is not None:
        from classifier.pictures import check_drawable

        for picture in list(pictures.values())[:1]:
            check_drawable(str(picture))
            _check_writable(Path(str(picture)), "--plot")


def _text_file_of(options: argparse.Namespace, item: Item, content: Content) -> Path:
    """Where with --out-dir the text of a sound goes."""
    from classifier.tag_output import SUFFIXES

    return Path(options.out_dir) / f"{item.stem}{SUFFIXES[content.file_format]}"


def _picture_of(options: argparse.Namespace, item: Item, n_sounds: int) -> Path | None:
    """Where the picture of a sound goes; None if there is to be none."""
    if options.plot is None:
        return None
    if options.plot == STDOUT:
        raise OptionError("a picture is not written to standard output: --plot needs a name")
    is_directory = options.plot.endswith(("/", os.sep)) or os.path.isdir(options.plot)
    if is_directory:
        return Path(options.plot) / f"{item.stem}.png"
    if n_sounds > 1:
        raise OptionError(
            f"--plot {options.plot} is one picture, and here are {n_sounds} sounds: name a "
            "directory, as --plot pictures/"
        )
    return Path(options.plot)


def _near_ear(options: argparse.Namespace, content: Content, stack: contextlib.ExitStack) -> Listen:
    """What tags sounds on this machine."""
    from vggish.audio import open_audio, source_name

    tagger = _tagger(options)
    _refuse_times(tagger.bundle.name, content, tagger.bundle.has_frame_scores)

    def listen(source: Sound, on_progress: Heard | None) -> ClipTags:
        sound = open_audio(source, source_name(STDOUT)) if isinstance(source, bytes) else source
        return tagger.tag(sound, **_choice(options), on_progress=on_progress)

    return listen


def _far_ear(options: argparse.Namespace, content: Content, stack: contextlib.ExitStack) -> Listen:
    """What has sounds tagged by a service."""
    from service.remote import open_service, read_key

    usual = {"embedder": "auto", "precision": None, "device": "auto", "force": False}
    for option, value in usual.items():
        if getattr(options, option) != value:
            raise OptionError(
                f"with --server it is the service that decides on {_flag(option)}; leave it out"
            )
    client, model = open_service(
        stack, options.server, read_key(options.api_key_file), options.model, _choice(options)
    )
    _refuse_times(model.name, content, model.has_frame_scores)
    wanted = {
        **_choice(options),
        "model": model.name,
        "frames": content.frames,
        "segments": content.tells_times and model.has_frame_scores,
        "tracks": options.plot is not None and model.has_frame_scores,
    }

    def listen(source: Sound, on_progress: Heard | None) -> ClipTags:
        tags: ClipTags = client.classify(source, **wanted)
        if on_progress is not None:
            on_progress(tags.duration_seconds, tags.duration_seconds)
        return tags

    return listen


def _choice(options: argparse.Namespace) -> dict[str, Any]:
    names = ("top_k", "threshold", "labels", "exclude_labels")
    return {name: getattr(options, name) for name in names}


def _refuse_times(model: str, content: Content, has_frame_scores: bool) -> None:
    if content.needs_times and not has_frame_scores:
        what = "--frames" if content.frames else "--segments or label tracks"
        raise OptionError(f"the model {model!r} scores whole sounds only, so there are no {what}")


def _tagger(options: argparse.Namespace) -> Tagger:
    """The model and its embedder; says which embedder it is where that was left to audiotag."""
    from classifier.choice import Choice
    from classifier.tagger import DEFAULT_MODEL, Tagger, choose_embedder
    from vggish.embedders import choose

    tagger = Tagger.load(
        DEFAULT_MODEL if options.model is None else options.model,
        embedder=options.embedder,
        precision=options.precision,
        device=options.device,
        force=options.force,
    )
    Choice(**_choice(options)).classes(tagger.bundle.labels)  # refuses unknown ones now
    wanted = choose_embedder(tagger.bundle, options.embedder, force=options.force)
    reason = choose(wanted, options.precision).reason
    if reason:
        _report(options, reason)
    return tagger


def _classify_each(
    options: argparse.Namespace, listen: Listen, inputs: Inputs, content: Content
) -> int:
    """Tag each sound, write what is heard and draw it; the number of sounds that failed."""
    n_failed, n_sounds = 0, len(inputs.items)
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(_tag_writer(options, content, n_sounds))
        shown = sys.stderr.isatty() and not options.quiet
        bar = stack.enter_context(_ProgressBar(inputs.items, "listening")) if shown else None
        for n_done, item in enumerate(inputs.items):
            try:
                picture = _picture_of(options, item, n_sounds)
                tags = _classify_one(listen, item, picture, write, bar)
            except (AudioError, ServiceError, _OneOutputError) as error:
                is_over = isinstance(error, ServiceUnreachableError)
                if is_over and n_failed == n_done:
                    raise
                n_failed += 1
                if options.debug:
                    traceback.print_exception(error)
                _tell_source(item.source, "error", str(error))
                if bar is not None:
                    bar.done(item, skipped=True)
                n_left = n_sounds - n_done - 1
                if is_over and n_left:
                    # The next sound would fare no better; what was heard is written all the same.
                    print(f"audiotag: error: {_count(n_left, 'sound')} not sent", file=sys.stderr)
                    return n_failed + n_left
                continue
            if bar is not None:
                bar.done(item, skipped=False)
            _tell_warnings(options, item, tags, content)
    return n_failed


def _classify_one(
    listen: Listen,
    item: Item,
    picture: Path | None,
    write: Callable[[Item, ClipTags], None],
    bar: _ProgressBar | None,
) -> ClipTags:
    """Tag one sound, write what is heard and draw it."""
    source = _kept(item.source) if picture is not None else item.source
    tags = listen(source, None if bar is None else functools.partial(bar.progress, item))
    with contextlib.nullcontext() if bar is None else bar.hidden():
        write(item, tags)
    if picture is not None:
        _draw(item, source, tags, picture)
    return tags


def _tell_warnings(
    options: argparse.Namespace, item: Item, tags: ClipTags, content: Content
) -> None:
    from vggish.mono import SILENCE

    told = SILENCE if content.file_format == "table" else None  # the table says it itself
    for warning in () if options.quiet else tags.warnings:
        if warning != told:
            _tell_source(item.source, "warning", warning)


def _kept(source: str) -> Sound:
    """A sound that can be read twice: what comes from a pipe is kept in memory."""
    if source != STDOUT or sys.stdin is None:
        return source
    return sys.stdin.buffer.read()


def _draw(item: Item, source: Sound, tags: ClipTags, picture: Path) -> None:
    from classifier.tag_plot import plot_tags
    from vggish.audio import load_audio, source_name

    title = _printable(source_name(item.source)).replace("\n", " ")
    tracks = getattr(tags, "tracks", None)
    with _of_one_sound():
        plot_tags(load_audio(source), tags, picture, title=title, tracks=tracks)


def _tell_source(source: str, kind: str, text: str) -> None:
    from vggish.audio import source_name

    text = located(source_name(source), text)
    print(_printable(f"audiotag: {kind}: {text}"), file=sys.stderr)


@contextlib.contextmanager
def _tag_writer(
    options: argparse.Namespace, content: Content, n_sounds: int
) -> Iterator[Callable[[Item, ClipTags], None]]:
    """What writes the tags of each sound as they come: to -o, standard output, or --out-dir."""
    from classifier.tag_output import TagText
    from vggish.audio import source_name
    from vggish.frames import as_text

    def told(text: TagText, item: Item, tags: ClipTags) -> str:
        return text.add(as_text(item.source), as_text(source_name(item.source)), tags)

    if options.out_dir is None:
        is_file = options.out not in (None, STDOUT)
        n_in_one = 0 if is_file and options.out.lower().endswith(".jsonl") else n_sounds
        n_written = 0
        with contextlib.suppress(_NothingToWrite), _text_output(options.out) as (write, look):
            text = TagText(content, look, n_in_one, _sample_rate_hz)
            write(text.begin())

            def write_on(item: Item, tags: ClipTags) -> None:
                nonlocal n_written
                n_written += 1
                try:
                    write(told(text, item, tags))
                except BrokenPipeError:
                    if options.plot is None:
                        raise
                    _mute_stdout()  # the pictures are wanted all the same

            yield write_on
            if is_file and not n_written:
                raise _NothingToWrite  # what the file holds from before is better than nothing
        return
    written: list[tuple[str, Path]] = []

    def write_file(item: Item, tags: ClipTags) -> None:
        path = _text_file_of(options, item, content)
        with _of_one_sound(), _text_output(str(path)) as (write, look):
            text = TagText(content, look, 1, _sample_rate_hz)
            write(text.begin() + told(text, item, tags))
        written.append((item.source, path))

    try:
        yield write_file
    finally:
        if not options.quiet:
            _name_outputs(written, options.out_dir)


def _name_outputs(written: Sequence[tuple[str, Path]], directory: str) -> None:
    if len(written) > MAX_OUTPUTS_NAMED:
        _print_result(_printable(f"{_count(len(written), 'file')} -> {directory}{os.sep}"))
        return
    for source, path in written:
        _print_result(_printable(f"{source} -> {path}"))


class _NothingToWrite(Exception):  # noqa: N818 - it is none that anybody sees
    """Not one sound could be heard."""


class _OneOutputError(FrameFileError):
    """What there is to tell of one sound cannot be written; the next one's may well be."""


@contextlib.contextmanager
def _of_one_sound() -> Iterator[None]:
    try:
        yield
    except FrameFileError as error:
        raise _OneOutputError(str(error)) from error


def _sample_rate_hz(path: str) -> float | None:
    """Of a sound, None where it cannot be known."""
    from vggish.audio import open_audio

    if path == STDOUT:
        return None
    try:
        with open_audio(path) as stream:
            return stream.sample_rate_hz
    except AudioError:
        return None


def _run_live(options: argparse.Namespace) -> int:
    """Listen to the microphone until Ctrl-C, and sum up."""
    for option, usual in _NOT_LIVE.items():
        if getattr(options, option) != usual:
            what = {"inputs": "inputs", "out": "-o"}.get(option, _flag(option))
            raise OptionError(f"--live takes no {what}: it prints lines, or JSON with --json")
    from classifier.live import LiveTagger
    from classifier.live_report import LiveReport
    from vggish.microphone import Microphone

    microphone = Microphone(options.live_device)
    tagger = _tagger(options)
    live = LiveTagger(tagger, microphone.sample_rate_hz, **_choice(options))
    with _text_output(None) as (write, look):
        report = LiveReport(microphone.sample_rate_hz, look, as_json=options.json)

        def show(found: Iterable[LiveTags]) -> None:
            for line in report.lines(found):
                write(line + "\n")

        try:
            with microphone:
                _report(options, f"listening to {microphone.name}; Ctrl-C stops")
                for block in microphone.blocks():
                    for note in report.notes(block):
                        _report(options, note)
                    show(live.feed(block.samples))
            show(live.finish())
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, _Terminated):
                raise
            print(file=sys.stderr)  # after the ^C that the terminal shows
        finally:
            _report(options, report.summary())
    return EXIT_OK


# What the microphone has no use for, with what it is when it is not given.
_NOT_LIVE: dict[str, Any] = {
    "inputs": [],
    **dict.fromkeys(("files_from", "out", "out_dir", "plot", "server", "api_key_file")),
    **dict.fromkeys(("csv", "srt", "audacity", "raven", "frames", "segments"), False),
}


@contextlib.contextmanager
def _text_output(out: str | None) -> Iterator[tuple[Callable[[str], object], Look]]:
    """Where text goes, and how a table looks there."""
    from classifier.tag_tables import Look

    if out not in (None, STDOUT):
        from vggish.frame_files import atomic_write

        with unwritable_as(FrameFileError, out), atomic_write(Path(out)) as file:
            yield lambda text: file.write(text.encode("utf-8", "backslashreplace")), Look()
        return
    stdout = sys.stdout
    look = Look(unicode=_can_show("█▏", stdout.encoding))
    if stdout.isatty():
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        look = Look(shutil.get_terminal_size().columns, look.unicode, not plain)

    def write(text: str) -> None:
        with _stdout_errors():
            stdout.write(text)
            stdout.flush()  # as they come, also into a pipe

    yield write, look


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# --- audiotag embed ----------------------------------------------------------------------


def _add_embed(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "embed",
        usage="audiotag embed INPUT ... [options]",
        help="sound files -> AudioSet-compatible 128-d frames",
        description="Turn sound into AudioSet-compatible frames: 128 numbers for each 0.96 s.",
        epilog=_EMBED_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(parser)
    where = parser.add_argument_group("output")
    where.add_argument(
        "-o", "--out", metavar="FILE", help="one file for all; its suffix says the format"
    )
    where.add_argument(
        "--out-dir",
        metavar="DIR",
        help="one file per input, in the tree of the inputs (default: the current directory)",
    )
    where.add_argument(
        "--format", choices=_FORMATS, help="format of the outputs (default: npz, or -o's suffix)"
    )
    where.add_argument(
        "--values",
        choices=("uint8", "pca", "raw"),
        default="uint8",
        help="quantised frames (default), float32 after PCA, or VGGish's raw output",
    )
    where.add_argument(
        "--labels", metavar="CSV", help="labels for tfrecord and jsonl: columns clip, labels"
    )
    where.add_argument(
        "--label-names",
        metavar="CSV",
        help="class_labels_indices.csv, if the labels are names or AudioSet ids",
    )
    how = parser.add_argument_group("method")
    _add_embedder(how, "auto (default) takes VGGish if it is installed, else mini, built in")
    how.add_argument(
        "--hop",
        type=float,
        default=PATCH_SECONDS,
        metavar="SECONDS",
        help=f"from one frame to the next (default {PATCH_SECONDS}; AudioSet's advance by 1)",
    )
    how.add_argument(
        "--tail",
        choices=("pad", "drop"),
        default="pad",
        help="complete the last patch with silence (default), or leave it out",
    )
    how.add_argument(
        "--resampler",
        choices=("soxr", "resampy"),
        default="soxr",
        help="soxr (default), or the slow one of the reference",
    )
    how.add_argument(
        "--precision",
        choices=("float32", "int8"),
        help="of VGGish: float32 (default), or int8: two to three times as fast, a little "
        "different; mini has one only",
    )
    _add_device(how)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--jobs",
        "-j",
        type=int,
        default=DEFAULT_JOBS,
        metavar="N",
        help=f"files at once (default {DEFAULT_JOBS})",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was killed; given from the start, repeating the command does "
        "only what failed, is new or has changed",
    )
    run.add_argument("--errors", metavar="FILE", help="write a CSV of the inputs that failed")
    _add_common(run)
    parser.set_defaults(run=_run_embed)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="sound file, directory (searched through), 'pattern', or - for standard input",
    )
    parser.add_argument(
        "--files-from", metavar="FILE", help="more inputs, one a line (- for standard input)"
    )


def _names_of_inputs(options: argparse.Namespace) -> list[str]:
    """What `_add_inputs` takes, at least one."""
    from vggish.inputs import read_list

    names = list(options.inputs)
    if options.files_from is not None:
        names += read_list(options.files_from)
    if not names:
        raise OptionError(f"nothing to {options.command}: name a sound file, a directory, or -")
    return names


def _refuse_both_places(options: argparse.Namespace) -> None:
    if options.out is not None and options.out_dir is not None:
        raise OptionError("use -o for one file or --out-dir for one file per input, not both")


def _add_device(group: Any) -> None:
    group.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="auto (default) takes a GPU if onnxruntime has one",
    )


def _add_embedder(group: Any, meaning: str) -> None:
    group.add_argument("--embedder", choices=_EMBEDDERS, help=meaning)


def _run_embed(options: argparse.Namespace) -> int:
    from vggish.inputs import find_inputs

    names = _names_of_inputs(options)
    if options.jobs < 1:
        raise OptionError(f"--jobs must be at least 1. Received: {options.jobs}")
    inputs = find_inputs(names)
    _check_outputs(options, inputs)
    with contextlib.ExitStack() as stack:
        destination = _destination(options, names, stack)
        labels = _labels(options, destination)

        from vggish.batch import Failure, Report, embed_batch

        extractor = _load_extractor(
            options,
            precision=options.precision,
            device=options.device,
            values=options.values,
            hop_seconds=options.hop,
            tail=options.tail,
            resampler=options.resampler,
        )
        shown = sys.stderr.isatty() and not options.quiet
        bar = stack.enter_context(_ProgressBar(inputs.items)) if shown else None
        started = time.perf_counter()
        report = Report()
        try:
            embed_batch(
                extractor,
                inputs.items,
                destination,
                jobs=options.jobs,
                resume=options.resume,
                labels=labels,
                observer=bar,
                report=report,
            )
        except BaseException as error:
            if bar is not None:
                bar.stop()
            _tell_failures(options, report)
            if isinstance(error, KeyboardInterrupt) and options.out != STDOUT:
                error.args = ("; the same command with --resume goes on",)
            raise
        elapsed = time.perf_counter() - started
        if bar is not None:
            bar.stop()
        if options.out == STDOUT and destination.file is not None and destination.file.exists():
            _send_to_stdout(destination.file)
    for directory, reason in inputs.unreadable:
        unsearched = AudioError(f"cannot search {directory}: {reason}")
        report.failures.append(Failure(directory, unsearched))
    _tell_failures(options, report)
    embedder = extractor.embedder.provenance
    _tell(options, inputs, destination, report, elapsed, embedder)
    return EXIT_SOME_FAILED if report.failures else EXIT_OK


def _load_extractor(
    options: argparse.Namespace, precision: Precision | None = None, **method: Any
) -> Extractor:
    """The extractor of `--embedder`; says which embedder it is where that was left to audiotag."""
    from vggish.api import load_extractor
    from vggish.embedders import choose

    choice = choose("auto" if options.embedder is None else options.embedder, precision)
    extractor = load_extractor(choice.name, precision=choice.precision, **method)
    if choice.reason:
        _report(options, choice.reason)
    return extractor


def _check_outputs(options: argparse.Namespace, inputs: Inputs) -> None:
    """Raise before the work if what is to be written is also read, or cannot be written."""
    read = [item.source for item in inputs.items]
    read += [p for p in (options.files_from, options.labels, options.label_names) if p is not None]
    _refuse_overwriting([("-o", options.out), ("--errors", options.errors)], read)
    if options.errors is not None:
        _check_writable(Path(options.errors), "--errors")


def _refuse_overwriting(
    outputs: Iterable[tuple[str, str | Path | None]], read: Iterable[str | Path]
) -> None:
    """Raise if a file that an option names is among those that are read, or named twice."""
    inputs = {os.path.realpath(path) for path in read if path != STDOUT}
    named: dict[str, str] = {}
    for option, path in outputs:
        if path is None or path == STDOUT:
            continue
        place = os.path.realpath(path)
        if place in inputs:
            raise OptionError(f"{option} {path} is one of the inputs and would be overwritten")
        if place in named:
            raise OptionError(f"{named[place]} and {option} name the same file, {path}")
        named[place] = option


def _send_to_stdout(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        _mute_stdout()
        # Whoever reads may have had enough (`| head`); that is not an error.
        if not isinstance(error, BrokenPipeError):
            raise FrameFileError(
                f"cannot write to standard output: {error.strerror or error}"
            ) from error


def _destination(
    options: argparse.Namespace, names: Sequence[str], stack: contextlib.ExitStack
) -> Destination:
    from vggish.batch import Destination
    from vggish.frame_files import format_of

    _refuse_both_places(options)
    if options.out is None:
        places = [name if name == "-" else os.path.abspath(name) for name in names]
        run_key = hashlib.sha256(os.fsencode("\0".join(places))).hexdigest()[:8]
        directory = Path(options.out_dir or ".")
        if directory.exists() and not directory.is_dir():
            raise OptionError(f"--out-dir {directory} is a file, not a directory")
        return Destination(options.format or "npz", directory, run_key=run_key)
    if options.out == STDOUT:
        if options.format is None:
            raise OptionError("-o - needs --format, for there is no suffix to tell it")
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="audiotag-"))
        return Destination(options.format, file=Path(scratch) / f"out.{options.format}")
    out = Path(os.path.realpath(options.out) if os.path.islink(options.out) else options.out)
    if out.is_dir() or options.out.endswith(("/", os.sep)):
        raise OptionError(f"-o {options.out} is a directory; use --out-dir for one file per input")
    if out.exists() and not out.is_file():
        raise OptionError(f"-o {out} is no regular file; use -o - and redirect it there")
    if out.parent.exists() and not out.parent.is_dir():
        raise OptionError(f"-o {out}: {out.parent} is a file, not a directory")
    return Destination(format_of(out, options.format), file=out)


def _labels(
    options: argparse.Namespace, destination: Destination
) -> dict[str, tuple[int, ...]] | None:
    if options.labels is None:
        if options.label_names is not None:
            raise OptionError("--label-names explains the labels of --labels, which is missing")
        return None
    if destination.file_format not in ("tfrecord", "jsonl"):
        raise OptionError(
            f"{destination.file_format} files hold no labels; use --format tfrecord or jsonl"
        )
    from vggish.labels_file import read_label_names, read_labels

    names = None if options.label_names is None else read_label_names(Path(options.label_names))
    return read_labels(Path(options.labels), names)


class _ProgressBar:
    """A progress bar over the bytes of the inputs, with speed in times real time.

    The sizes of files are known before any is opened, their durations are not; within a file
    the share of its seconds stands for the share of its bytes.
    """

    def __init__(self, items: Sequence[Item], what: str = "embedding") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._size = {item.source: max(1, _file_size(item.source)) for item in items}
        self._total = sum(self._size.values())
        self._bytes: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        # What failed, or was done by an earlier run, takes no time and tells nothing of speed.
        self._skipped_bytes, self._done_bytes, self._done_seconds = 0.0, 0.0, 0.0
        self._n_done = 0
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._bar = Progress(
            TextColumn(what),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[state]}"),
            console=Console(stderr=True),
            expand=True,
            transient=True,
            redirect_stdout=False,  # it would break lines of results; see `hidden`
        )
        self._task = self._bar.add_task("", total=self._total, state="")
        self._show()

    def __enter__(self) -> _ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Off the screen meanwhile, for results that go to the same terminal, if they do."""
        if sys.stdout is None or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def progress(self, item: Item, seconds: float, total_seconds: float | None) -> None:
        with self._lock:
            self._seconds[item.source] = seconds
            if total_seconds:
                share = min(1.0, seconds / total_seconds)
                self._bytes[item.source] = share * self._size[item.source]
            self._show()

    def finished(self, item: Item, clip: ClipFrames | None) -> None:
        self.done(item, skipped=clip is None)

    def done(self, item: Item, *, skipped: bool) -> None:
        with self._lock:
            self._bytes.pop(item.source, None)
            seconds = self._seconds.pop(item.source, 0.0)
            if skipped:
                self._skipped_bytes += self._size[item.source]
            else:
                self._done_bytes += self._size[item.source]
                self._done_seconds += seconds
            self._n_done += 1
            self._show()

    def _show(self) -> None:
        elapsed = max(time.perf_counter() - self._started, 1e-3)
        speed = (self._done_seconds + sum(self._seconds.values())) / elapsed
        embedded = self._done_bytes + sum(self._bytes.values())
        left = self._total - self._skipped_bytes - embedded
        seconds_left = left * elapsed / embedded if embedded else None
        count = f"{self._n_done}/{_count(len(self._size), 'file')}"
        self._bar.update(
            self._task,
            completed=self._total - left,
            state=f"{count}  {speed:.0f}x real time  {_clock(seconds_left)} left",
        )


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _tell_failures(options: argparse.Namespace, report: Report) -> None:
    """Say which inputs failed and why, on stderr and in the file that `--errors` names."""
    for failure in report.failures:
        if options.debug:
            traceback.print_exception(failure.error)
        print(_printable(f"audiotag: error: {_failure_text(failure)}"), file=sys.stderr)
    if options.errors is not None:
        _write_errors(Path(options.errors), report)


def _tell(
    options: argparse.Namespace,
    inputs: Inputs,
    destination: Destination,
    report: Report,
    elapsed: float,
    embedder: Mapping[str, str],
) -> None:
    """Say what was done, where it is, and what was odd."""
    if options.quiet:
        return
    for source, warning in report.warnings:
        print(_printable(f"audiotag: warning: {source}: {warning}"), file=sys.stderr)
    notes = []
    if inputs.skipped:
        few = ", ".join(inputs.skipped[:3]) + (", ..." if len(inputs.skipped) > 3 else "")
        notes.append(f"{_count(len(inputs.skipped), 'file')} not taken for sound: {few}")
    if inputs.repeated:
        notes.append(f"{_count(len(inputs.repeated), 'input')} named more than once, done once")
    if report.unlabelled:
        few = ", ".join(report.unlabelled[:3]) + (", ..." if len(report.unlabelled) > 3 else "")
        notes.append(f"{_count(len(report.unlabelled), 'clip')} not in {options.labels}: {few}")
    for note in notes:
        print(_printable(f"audiotag: note: {note}"), file=sys.stderr)
    out = sys.stderr if options.out == STDOUT else sys.stdout
    for line in _summary(options, inputs, destination, report, elapsed, embedder):
        print(_printable(line), file=out)


def _summary(
    options: argparse.Namespace,
    inputs: Inputs,
    destination: Destination,
    report: Report,
    elapsed: float,
    embedder: Mapping[str, str],
) -> Iterator[str]:
    kind = "uint8" if options.values == "uint8" else f"float32 ({options.values})"
    what = f"{_count(report.n_frames, 'frame')} [128] {kind}, {report.seconds:.1f} s of sound"
    speed = f"{report.seconds / max(elapsed, 1e-9):.0f}x real time"
    method = f"{embedder['name']} {embedder['precision']}, {speed}"
    failed = {failure.source for failure in report.failures}
    if destination.file is None:
        written = [item for item in inputs.items if item.source not in failed]
        if len(written) <= MAX_OUTPUTS_NAMED:
            for item in written:
                yield f"{item.source} -> {destination.path(item)}"
        else:
            yield f"{_count(len(written), 'file')} -> {destination.directory}{os.sep}"
    elif report.n_clips + report.n_resumed:
        where = "standard output" if options.out == STDOUT else str(destination.file)
        yield f"{_count(report.n_clips + report.n_resumed, 'clip')} -> {where}"
    if report.n_clips:
        yield f"{what}  ({method})"
    if report.n_resumed:
        yield f"{_count(report.n_resumed, 'input')} done by an earlier run"
    if failed:
        yield f"{_count(len(failed), 'input')} of {len(inputs.items)} failed"


def _failure_text(failure: Failure) -> str:
    from vggish.audio import source_name

    text, source = _explained(failure.error), source_name(failure.source)
    return text if source in text else f"{source}: {text}"


def _check_writable(path: Path, option: str) -> None:
    """Raise if what an option names cannot be written; what is there stays as it is."""
    try:
        is_new = not path.exists()
        if path.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        if not is_new and not path.is_file():
            # Whoever reads a pipe would take a trial for the end.
            if not os.access(path, os.W_OK):
                raise PermissionError(None, "Permission denied")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise FrameFileError(f"cannot write {option} {path}: {error.strerror or error}") from error


def _write_errors(path: Path, report: Report) -> None:
    """Write the CSV of the inputs that failed."""
    from vggish.frame_files import atomic_write

    try:
        with atomic_write(path) as file:
            text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(["input", "error", "message"])
            for failure in report.failures:
                kind = type(failure.error).__name__
                rows.writerow([failure.source, kind, _failure_text(failure)])
            text.flush()
            text.detach()
    except OSError as error:
        raise FrameFileError(f"cannot write --errors {path}: {error.strerror or error}") from error


# --- audiotag serve ----------------------------------------------------------------------


_SERVE_EPILOG = """\
Each setting is also a variable (--max-uploads: AUDIOTAG_MAX_UPLOADS) and a line of the settings
file (max_uploads = 128). A flag goes before a variable, and a variable before the file.

examples:
  audiotag serve                                http://127.0.0.1:8000/, for this machine
  audiotag serve --host 0.0.0.0 --api-keys-file keys.txt
                                                for others, who need one of the keys
  audiotag serve --models runs/mine,audioset --workers 2
  audiotag serve --config service.toml --show-config > all.toml

SIGTERM and Ctrl-C let requests end, a second one does not. SIGHUP loads changed bundles.

exit status:
  0 stopped as told    1 could not start, or not end in time    2 a setting is wrong
"""


def _add_serve(commands: Any) -> None:
    from service.setting_text import add_flags

    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        usage="audiotag serve [options]",
        help="an HTTP service and a page: sound in, tags out",
        description="Serve the tagger over HTTP, with a page to hear and see with.",
        epilog=_SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a settings file, TOML (or AUDIOTAG_CONFIG names it)"
    )
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print all settings, and where each comes from, as a settings file; serve nothing",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    add_flags(parser)
    parser.set_defaults(run=_run_serve)


def _run_serve(options: argparse.Namespace) -> int:
    from service.setting_text import flags_of
    from service.settings import load_settings

    settings = load_settings(flags_of(options), options.config)
    for note in settings.notes:
        print(_printable(f"audiotag: note: {note}"), file=sys.stderr)
    if options.show_config:
        _print_result(settings.describe().rstrip())
        return EXIT_OK
    from service.server import serve

    return serve(settings.config)


# --- audiotag train ----------------------------------------------------------------------


_TRAIN_EPILOG = """\
examples:
  audiotag train --frames data/*.tfrecord       a GRU on AudioSet's records, into runs/gru-1
  audiotag train --frames data/ --head feature-attention --set units=512 -o runs/fa
  audiotag train --frames data/ -o runs/fa --resume
                                                go on exactly where it stopped
  audiotag train --audio sounds/                your own sounds, a folder for each class
  audiotag train --audio sounds/ --embedder mini
                                                ... for a bundle that needs no VGGish
  audiotag train --frames noisy/ -o runs/noisy  two stages: first what is noisy, ...
  audiotag train --frames curated/ --init-from runs/noisy/bundle --learning-rate 3e-4
                                                ... then what is curated
  audiotag train --frames data/ --folds 5       five heads that vote as one bundle

exit status:
  0 trained    2 nothing could be done    130 interrupted; the best weights so far are kept
"""

# The options that are fields of `TrainingConfig`, by group; defaults and choices are its own.
_TRAINING_OPTIONS = {
    "training": {
        "epochs": "passes over the clips, at most; 0: as many as suit their number",
        "batch_size": "clips a step; 0: 128, fewer for small data",
        "patience": "stop after so many epochs without a better mAP; 0: never",
        "precision": "bfloat16 is faster where the processor has it (AMX, GPUs)",
        "seed": "of all random choices",
    },
    "frames of a clip": {
        "sampling": "all frames, random ones, or a random run of them",
        "n_frames": "how many; 0: as many as the longest clip has, 300 at most",
    },
    "optimiser": {
        "optimiser": "Adam, or AdamW for --weight-decay",
        "learning_rate": "the highest one",
        "schedule": "of the learning rate",
        "warmup": "share of the steps in which a cosine schedule's rate rises",
        "decay_rate": "of the exponential schedule",
        "decay_examples": "clips until the exponential schedule decays by that",
        "weight_decay": "of kernels",
        "clip_norm": "largest norm of gradients; 0: any",
        "ema": "decay of the moving average of weights; 0: none",
    },
    "loss": {
        "loss": "softmax is for clips of one label",
        "focal_gamma": "of the focal loss",
        "label_smoothing": "share of a label that goes to how often its class is",
        "class_weights": "balanced: rare classes weigh more",
    },
    "augmentation": {
        "mixup": "alpha by which clips are mixed; 0: not",
        "frame_masking": "share of frames that are masked",
        "balance": "0: each clip once an epoch; 1: each class as often as any other",
    },
}


def _add_train(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        usage="audiotag train (--frames FILE ... | --audio DIR) [options]",
        help="frames and labels -> a head that tags",
        description="Train a head on labelled frames, AudioSet's or your own.",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("data")
    _add_frames(data, "--frames", "files of labelled frames, directories, 'patterns'")
    data.add_argument(
        "--audio",
        type=Path,
        metavar="DIR|CSV",
        help="your own sounds: a folder for each class, or a CSV with the columns path, labels "
        "(and start, end, fold)",
    )
    _add_frames(data, "--val", "frames to validate on (default: a share of --frames)")
    data.add_argument(
        "--val-share",
        type=float,
        metavar="SHARE",
        help="held out by clip id (default 0.1); 0: train on all, for all epochs",
    )
    data.add_argument(
        "--folds", type=int, metavar="K", help="cross-validate; the K heads become one bundle"
    )
    _add_labels_option(data, "the classes (default: AudioSet's 527; the folders of --audio)")
    _add_max_bad(data)
    data.add_argument(
        "--jobs", "-j", type=int, default=DEFAULT_JOBS, metavar="N",
        help=f"sounds of --audio at once (default {DEFAULT_JOBS})",
    )  # fmt: skip
    _add_embedder(data, "of --audio: auto (default) takes VGGish if it is installed, else mini")
    run = parser.add_argument_group("run")
    run.add_argument(
        "-o", "--out", type=Path, metavar="RUN", help="its directory (default: runs/HEAD-N)"
    )
    run.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    run.add_argument(
        "--init-from", metavar="BUNDLE", help="begin with its weights; classes may differ"
    )
    run.add_argument("--licence", default="", metavar="TEXT", help="of the data, for the card")
    _add_common(run)
    head = parser.add_argument_group("head")
    head.add_argument("--head", metavar="NAME", help="see --list-heads (default: gru)")
    head.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="settings of the head",
    )  # fmt: skip
    head.add_argument(
        "--list-heads", action="store_true", help="show heads with their settings, and exit"
    )
    _add_training_options(parser)
    parser.set_defaults(run=_run_train)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    from classifier import config

    defaults = config.TrainingConfig()
    for title, options in _TRAINING_OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, meaning in options.items():
            default = getattr(defaults, name)
            choices = config.CHOICES.get(name)
            group.add_argument(
                f"--{name.replace('_', '-')}",
                type=type(default),
                choices=choices,
                default=default,
                metavar=None if choices else "N" if isinstance(default, int) else "X",
                help=f"{meaning} (default {default:,})" if isinstance(default, int)
                else f"{meaning} (default {default})",
            )  # fmt: skip


def _add_frames(group: Any, option: str, meaning: str, *, required: bool = False) -> None:
    group.add_argument(
        option,
        type=_name,
        nargs="+",
        action="extend",
        default=[],
        required=required,
        metavar="FILE",
        help=meaning,
    )


def _add_labels_option(group: Any, meaning: str) -> None:
    group.add_argument(
        "--labels", type=Path, metavar="CSV", help=f"{meaning}: columns index, mid, display_name"
    )


def _add_max_bad(group: Any) -> None:
    group.add_argument(
        "--max-bad",
        type=_whole_number,
        default=0,
        metavar="N",
        help="damaged records or files that are left out and named before that is an error "
        "(default 0)",
    )


def _name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is a variable not set?")
    return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more. Received: {text}")
    return int(text)


def _run_train(options: argparse.Namespace) -> int:
    if options.list_heads:
        _list_heads()
        return EXIT_OK
    from classifier.records import find_frame_files
    from classifier.runs import Run, latest_run, new_run
    from classifier.splits import DEFAULT_SHARE

    _check_train(options)
    config = _training_config(options)
    initial = None
    if options.init_from is not None:
        from classifier.bundle import load

        initial = load(options.init_from)
    with _native_logs_hidden(options):
        for arguments in filter(None, (options.frames, options.val)):
            find_frame_files(arguments)  # a wrong path is told before TensorFlow is loaded
        from classifier.fit import Options, cross_validate, fit, start_config

        if initial is not None:
            config = start_config(config, initial, bool(options.head or options.set))
        find = latest_run if options.resume else new_run
        run = Run(options.out) if options.out is not None else find(config.head)
        data = _training_data(options, None if initial is None else initial.labels)
        validation = None
        if options.val:
            validation = _labelled_frames(options, options.val, data.labels)
        _report(options, f"{_count(len(data.labelled), 'clip')}, "
                f"{_count(len(data.labels), 'class', 'classes')}; "
                f"{config.head} -> {run.directory}")  # fmt: skip
        # Until here there is nothing to keep, and Ctrl-C ends at once.
        with _stopped_by_signals() as stop, _TrainingDisplay(options) as display:
            how = Options(
                validation_share=(
                    DEFAULT_SHARE if options.val_share is None else options.val_share
                ),
                initial=initial,
                licence=options.licence,
                resume=options.resume,
                observer=display,
                should_stop=stop.is_set,
                tell=display.tell,
            )
            if options.folds is not None:
                fitted = cross_validate(config, data, options.folds, run, how)
            else:
                fitted = fit(config, data, validation, run, how)
    if not options.quiet:
        print(_printable(_trained(options, run.directory, fitted)))
    if not fitted.is_finished:
        print("audiotag: stopped; the same command with --resume"
              f"{'' if options.out is not None else f' -o {run.directory}'} goes on",
              file=sys.stderr)  # fmt: skip
        return getattr(stop, "status", EXIT_INTERRUPTED)
    return EXIT_OK


def _check_train(options: argparse.Namespace) -> None:
    """Raise what can be known to be wrong before anything is read."""
    from classifier.runs import Run
    from classifier.splits import check_n_folds, check_share

    if bool(options.frames) == (options.audio is not None):
        raise OptionError(
            "say what to train on: --frames for files of frames, or --audio for sounds"
            + (", not both" if options.frames else "")
        )
    if options.frames and options.embedder is not None:
        raise OptionError(
            "--embedder says what embeds the sounds of --audio; --frames are embedded already"
        )
    if options.folds is not None:
        check_n_folds(options.folds)
        if options.val or options.val_share is not None:
            needless = "--val" if options.val else "--val-share"
            raise OptionError(f"--folds validates on each fold in turn; leave out {needless}")
    if options.val_share is not None:
        if options.val:
            raise OptionError("--val brings the clips to validate on; leave out --val-share")
        if options.val_share != 0:
            check_share(options.val_share)
    if options.jobs < 1:
        raise OptionError(f"--jobs must be at least 1. Received: {options.jobs}")
    if options.out is not None:
        if not options.resume:
            Run(options.out).check_free()
        elif options.folds is None:
            Run(options.out).described()
        else:
            Run(options.out / "fold-1").described()


def _training_config(options: argparse.Namespace) -> TrainingConfig:
    import re

    from classifier.config import TrainingConfig
    from classifier.heads import DEFAULT_HEAD

    names = [name for group in _TRAINING_OPTIONS.values() for name in group]
    try:
        return TrainingConfig(
            head=options.head or DEFAULT_HEAD,
            settings=_settings(options.set),
            **{name: getattr(options, name) for name in names},
        )
    except OptionError as error:
        # Fields begin a message or have an underscore; here they are called as they are typed.
        fields = "|".join(["^head", *(name if "_" in name else f"^{name}" for name in names)])
        typed = re.sub(
            rf"\b({fields})\b", lambda found: f"--{found[0].replace('_', '-')}", str(error)
        )
        raise OptionError(typed) from error


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise OptionError(f"--set takes NAME=VALUE, such as units=256. Received: {pair!r}")
        settings[name] = value
    return settings


def _list_heads() -> None:
    import dataclasses

    from classifier.heads import HEADS

    for name, kind in HEADS.items():
        settings = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(kind))
        print(f"{name:<22} {settings}")


def _training_data(options: argparse.Namespace, known: Labels | None) -> LabelledClips:
    """The clips of --frames or --audio, with their classes."""
    from classifier.fit import LabelledClips
    from classifier.labels import audioset_labels, read_labels

    classes = None if options.labels is None else read_labels(options.labels)
    if options.audio is None:
        return _labelled_frames(options, options.frames, classes or known or audioset_labels())
    from classifier.clip_store import ClipStore
    from classifier.own_sounds import EmbedReport, embed_sounds
    from classifier.sound_lists import read_sound_list
    from classifier.splits import check_given_folds

    sounds = read_sound_list(options.audio, classes)
    folds = {sound.clip_id: sound.fold for sound in sounds.sounds}
    names_folds = any(fold is not None for fold in folds.values())
    if options.folds is not None and names_folds:
        check_given_folds(list(folds.values()), options.folds)
    for note in sounds.notes():
        _report(options, f"note: {note}")
    if options.folds is None and names_folds:
        _report(options, f"note: {options.audio} names folds, which only --folds heeds")
    extractor, report = _load_extractor(options), EmbedReport()
    with _counting_bar(options, "embedding", len(sounds.sounds)) as advance:
        store = ClipStore.from_clips(
            embed_sounds(
                sounds,
                extractor,
                max_bad=options.max_bad,
                jobs=options.jobs,
                report=report,
                on_progress=lambda done: advance(done.n_embedded + done.n_cached + len(done.bad)),
            )
        )
    for where, sentence in report.warnings:
        _report(options, f"warning: {where}: {sentence}")
    for bad in report.bad:
        _report(options, f"warning: {located(bad.where, bad.reason)}; left out")
    _report(options, f"{_count(report.n_embedded, 'sound')} embedded, {report.n_cached:,} cached")
    given = [fold for clip_id in store.ids if (fold := folds[clip_id]) is not None]
    uses_folds = options.folds is not None and names_folds
    return LabelledClips(store, sounds.labels, [str(options.audio)], given if uses_folds else None)


def _labelled_frames(
    options: argparse.Namespace, arguments: Sequence[str], labels: Labels
) -> LabelledClips:
    from classifier.fit import LabelledClips

    return LabelledClips(_load_frames(options, arguments), labels, arguments)


def _load_frames(options: argparse.Namespace, arguments: Sequence[str]) -> ClipStore:
    from classifier.clip_store import load_clips
    from classifier.records import ReadReport, find_frame_files

    report = ReadReport()
    store = load_clips(find_frame_files(arguments), max_bad=options.max_bad, report=report)
    _warn(options, report)
    return store


def _warn(options: argparse.Namespace, report: ReadReport) -> None:
    for warning in report.warnings():
        _report(options, f"warning: {warning}")


def _trained(options: argparse.Namespace, directory: Path, fitted: Fitted) -> str:
    """What training came to, in a few lines."""
    import math
    import statistics

    lines = []
    scores = [result.metrics.get("mAP", math.nan) for result in fitted.results]
    if options.folds is not None and fitted.is_finished:
        spread = statistics.stdev(scores)
        lines.append(f"mAP of {len(scores)} folds: {statistics.mean(scores):.4f} +- {spread:.4f}")
    elif options.folds is None and fitted.results[0].best_epoch and not math.isnan(scores[0]):
        result = fitted.results[0]
        shown = "  ".join(f"{n} {score(result.metrics[n])}" for n in ("mAP", "mAUC", "lwlrap"))
        lines.append(f"best epoch {result.best_epoch} of {result.n_epochs}: {shown} (validation)")
        if math.isnan(result.metrics["mAUC"]):
            lines.append("mAUC is not measured: no class has validation clips with and without it")
    if fitted.bundle is not None:
        lines.append(f"bundle: {fitted.bundle.directory}")
    else:
        missing = "no epoch" if options.folds is None else "not every fold"
        lines.append(f"no bundle yet in {directory}: {missing} has ended")
    return "\n".join(lines)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and the signals of termination set; a second one ends at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heed(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.status = 128 + number  # type: ignore[attr-defined]
        stop.set()

    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, heed)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _TrainingDisplay:
    """Epochs as lines on stderr, and on a terminal a bar with the steps between them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._quiet = options.quiet
        self._bar: Any = None
        self._n_epochs, self._rate = 0, 0.0
        self._left: float | None = None
        if sys.stderr.isatty() and not options.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[state]}"),
                console=Console(stderr=True),
                expand=True,
                transient=True,
            )
            self._task = self._bar.add_task("", epoch="1", state="starting")

    def __enter__(self) -> _TrainingDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, line: str) -> None:
        """Print a line."""
        if not self._quiet:
            self._print(f"audiotag: {line}")

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        self._n_epochs, self._rate = progress.n_epochs, progress.examples_per_second
        self._left = progress.seconds_left
        if self._bar is not None:
            self._bar.update(
                self._task,
                total=progress.n_steps,
                completed=progress.step,
                epoch=f"{progress.epoch}/{progress.n_epochs}",
                state=f"loss {progress.loss:.3f}  {self._score(progress.mean_average_precision)}"
                f"{progress.examples_per_second:,.0f} examples/s  {_clock(self._left)} left",
            )

    @staticmethod
    def _score(mean_average_precision: float) -> str:
        measured = mean_average_precision == mean_average_precision  # NaN before the first epoch
        return f"mAP {mean_average_precision:.4f}  " if measured else ""

    def epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Print the epoch's line."""
        if self._quiet:
            return
        names = [name for name in ("mAP", "mAUC") if name in row]
        scores = "  ".join(f"{name} {score(row[name])}" for name in names)
        self._print(
            f"epoch {row['epoch']:>3.0f}/{self._n_epochs}  loss {row['loss']:.3f}  {scores}"
            f"{' *' if is_best and scores else '  '}  {self._rate:,.0f} examples/s  "
            f"{_clock(self._left)} left"
        )

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(_printable(line), markup=False, highlight=False)
        else:
            print(_printable(line), file=sys.stderr, flush=True)


# --- audiotag evaluate, predict, export, inspect -----------------------------------------


_EVALUATE_EPILOG = """\
examples:
  audiotag evaluate runs/gru-1 --frames eval/*.tfrecord
  audiotag evaluate weights/audioset-gru --frames eval/ --json --per-class classes.csv
  audiotag evaluate --watch runs/gru-1 --frames eval/
                                    each new checkpoint while `audiotag train` goes on

exit status:
  0 evaluated    2 nothing could be done, or a file not be written    130 interrupted
"""


def _add_evaluate(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        usage="audiotag evaluate BUNDLE --frames FILE ... [options]",
        help="how good a bundle is on labelled frames",
        description="Measure a bundle on labelled frames.",
        epilog=_EVALUATE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundle",
        type=_name,
        nargs="?",
        metavar="BUNDLE",
        help="a bundle, a run, or audioset-gru, audioset-best",
    )
    parser.add_argument(
        "--watch", type=Path, metavar="RUN", help="evaluate each new checkpoint of a run instead"
    )
    _add_frames(parser, "--frames", "labelled frames", required=True)
    _add_max_bad(parser)
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print JSON instead of a table")
    out.add_argument("--per-class", type=Path, metavar="CSV", help="write a row for each class")
    out.add_argument("--plot", type=Path, metavar="PNG", help="draw it (.png, .svg, .pdf)")
    _add_force(out)
    _add_common(out)
    parser.set_defaults(run=_run_evaluate)


def _add_force(group: Any) -> None:
    group.add_argument(
        "--force", action="store_true", help="also take frames of an embedder it is not made for"
    )


def _run_evaluate(options: argparse.Namespace) -> int:
    from classifier.bundle import load
    from classifier.evaluate import evaluate
    from classifier.pictures import check_drawable
    from classifier.records import ReadReport, find_frame_files, read_clips

    if (options.bundle is None) == (options.watch is None):
        raise OptionError("name a bundle to evaluate, or a run to --watch (and not both)")
    if options.watch is not None:
        return _watch(options)
    outputs = {"--per-class": options.per_class, "--plot": options.plot}
    if not any(outputs.values()):
        _need_stdout()
    _refuse_overwriting(outputs.items(), [])
    for option, path in outputs.items():
        if path is not None:
            _check_writable(path, option)
    if options.plot is not None:
        check_drawable(options.plot)
    bundle, report = load(options.bundle), ReadReport()
    paths = find_frame_files(options.frames)
    _refuse_overwriting(outputs.items(), [*paths, *bundle.directory.rglob("*")])
    clips = read_clips(paths, max_bad=options.max_bad, report=report)
    with _counting_bar(options, "evaluating", None) as advance:
        found = evaluate(bundle, clips, bundle.labels, force=options.force, on_progress=advance)
    _warn(options, report)
    try:
        _print_result(_json(found.as_json()) if options.json else found.as_table())
    finally:  # one place that is full must not keep it from the others
        _write_evaluation(options, found)
    return EXIT_OK


def _write_evaluation(options: argparse.Namespace, found: Evaluation) -> None:
    from vggish.frame_files import atomic_write

    path = options.per_class
    if path is not None:
        with unwritable_as(FrameFileError, path), atomic_write(path) as file:
            found.write_per_class_csv(file)
    if options.plot is not None:
        found.plot(options.plot)


def _watch(options: argparse.Namespace) -> int:
    """Evaluate checkpoints as they come, until the run is finished or a signal comes."""
    from classifier.evaluate import evaluate, watch
    from classifier.runs import Run, read_arrays

    if options.per_class is not None or options.plot is not None:
        raise OptionError("--per-class and --plot are for one bundle, not for --watch")
    _need_stdout()
    run = Run(options.watch)
    config, labels = run.config(), run.labels()
    store = _load_frames(options, options.frames)
    with _native_logs_hidden(options), _stopped_by_signals() as stop:
        from classifier.network import Network, set_weights

        network = Network(config, len(labels))

        def evaluate_one(path: Path) -> tuple[int, Evaluation] | None:
            try:
                weights, meta = read_arrays(path)
            except AudiotagError:
                if path.exists():
                    raise
                return None  # training has removed it meanwhile
            set_weights(network.model, weights)
            found = evaluate(network, store, labels, force=options.force)
            return int(meta["epoch"]), found

        results = watch(run.checkpoints, evaluate_one, stop, is_finished=lambda: run.is_finished)
        due = 1
        for _, result in results:
            if result is not None:
                epoch, found = result
                if epoch > due:
                    gone = f"{due}" if epoch == due + 1 else f"{due} to {epoch - 1}"
                    _report(options, f"note: not evaluated: epoch {gone}; a run keeps its latest "
                            "checkpoints only")  # fmt: skip
                due = epoch + 1
                _print_result(_watched(epoch, found, as_json=options.json))
    if stop.is_set():
        return getattr(stop, "status", EXIT_INTERRUPTED)
    return EXIT_OK


def _watched(epoch: int, found: Evaluation, *, as_json: bool) -> str:
    if as_json:
        return _json({"epoch": epoch, **found.as_json()}, indent=None)
    names = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
    return f"epoch {epoch:>3}  " + "  ".join(f"{n} {score(found.metrics[n])}" for n in names)


_PREDICT_EPILOG = """\
formats:
  yt8m      VideoId,LabelConfidencePairs, as YouTube-8M's (the default of .csv)
  wide      a column for each class, as Kaggle's submissions
  jsonl     a line for each clip, with names (.jsonl)
  parquet   scores of all classes (.parquet)

exit status:
  0 predicted    2 nothing could be done    130 interrupted
"""


def _add_predict(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        usage="audiotag predict BUNDLE --frames FILE ... -o predictions.csv [options]",
        help="frames -> scores of each clip",
        description="Write what a bundle says of each clip.",
        epilog=_PREDICT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundle",
        type=_name,
        metavar="BUNDLE",
        help="a bundle, a run, or audioset-gru, audioset-best",
    )
    _add_frames(parser, "--frames", "frames, labelled or not", required=True)
    _add_max_bad(parser)
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--out", required=True, metavar="FILE", help="- for standard output")
    out.add_argument(
        "--format", choices=("yt8m", "wide", "jsonl", "parquet"), help="(default: by the suffix)"
    )
    out.add_argument(
        "--top-k", type=int, default=20, metavar="K", help="tags of a clip (default 20)"
    )
    _add_force(out)
    _add_common(out)
    parser.set_defaults(run=_run_predict)


def _run_predict(options: argparse.Namespace) -> int:
    from classifier.bundle import load
    from classifier.predict import predict
    from classifier.records import ReadReport, find_frame_files, read_clips

    if options.top_k < 1:
        raise OptionError(f"--top-k must be at least 1. Received: {options.top_k}")
    if options.out == STDOUT:
        if options.format is None:
            raise OptionError("-o - needs --format, for there is no suffix to tell it")
        _need_stdout()
    kinds = {".csv": "yt8m", ".jsonl": "jsonl", ".parquet": "parquet"}
    file_format = options.format or kinds.get(Path(options.out).suffix.lower())
    if file_format is None:
        raise OptionError(
            f"cannot tell the format of {options.out}; use .csv, .jsonl or .parquet, or --format"
        )
    paths = find_frame_files(options.frames)
    bundle, report = load(options.bundle), ReadReport()
    _refuse_overwriting([("-o", options.out)], [*paths, *bundle.directory.rglob("*")])
    clips = read_clips(paths, max_bad=options.max_bad, report=report)
    started = time.perf_counter()
    with _counting_bar(options, "predicting", None) as advance:
        done = predict(
            bundle,
            clips,
            sys.stdout.buffer if options.out == STDOUT else Path(options.out),
            file_format,
            top_k=options.top_k,
            force=options.force,
            on_progress=advance,
        )
    _warn(options, report)
    seconds = time.perf_counter() - started
    where = "standard output" if options.out == STDOUT else options.out
    _report(options, f"{_count(done.n_clips, 'clip')} -> {where}, "
            f"{done.n_clips / max(seconds, 1e-9):,.0f} clips/s")  # fmt: skip
    return EXIT_OK


_EXPORT_EPILOG = """\
examples:
  audiotag export runs/gru-1 -o tagger             its best weights so far, also of a stopped run
  audiotag export runs/gru-1 runs/fa-1 -o both     heads of any kind, which vote
  audiotag evaluate runs/gru-1 --frames eval/ --json > metrics.json
  audiotag export runs/gru-1 -o tagger --float16 --metrics metrics.json --licence CC-BY-4.0

exit status:
  0 exported    2 nothing was written
"""


def _add_export(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        usage="audiotag export RUN ... -o DIR [options]",
        help="a run's best weights -> a bundle",
        description="Write the best weights of a run as a bundle, which needs no TensorFlow; "
        "of several runs, as an ensemble.",
        epilog=_EXPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the bundle")
    parser.add_argument("--name", help="of the bundle (default: the name of DIR)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the data")
    parser.add_argument(
        "--metrics", type=Path, metavar="JSON",
        help="for the model card: what `audiotag evaluate --json` printed",
    )  # fmt: skip
    parser.add_argument("--notes", default="", metavar="TEXT", help="for the model card")
    parser.add_argument(
        "--embedders", nargs="+", action="extend", default=[], metavar="NAME",
        help="whose frames it is made for (default: those of the training data)",
    )  # fmt: skip
    _add_frames(
        parser,
        "--calibrate",
        "labelled frames to calibrate the scores on (default: what training held out); never "
        "those of an evaluation",
    )
    parser.add_argument(
        "--float16", action="store_true", help="round large weights, which halves the files"
    )
    parser.add_argument(
        "--saved-model", action="store_true", help="add a SavedModel, to serve with TensorFlow"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")
    _add_common(parser)
    parser.set_defaults(run=_run_export)


def _run_export(options: argparse.Namespace) -> int:
    from classifier.runs import Run

    calibrate_on = None
    if options.calibrate:
        from classifier.clip_store import load_clips
        from classifier.records import find_frame_files

        calibrate_on = load_clips(find_frame_files(options.calibrate))
    with _native_logs_hidden(options):
        from classifier.export import export

        bundle = export(
            [Run(directory) for directory in options.runs],
            options.out,
            name=options.name,
            licence=options.licence,
            notes=options.notes,
            metrics=None if options.metrics is None else _read_json(options.metrics),
            embedders=options.embedders,
            calibrate_on=calibrate_on,
            half=options.float16,
            saved_model=options.saved_model,
            overwrite=options.overwrite,
        )
    if not options.quiet:
        n_classes = _count(len(bundle.labels), "class", "classes")
        print(_printable(f"bundle: {bundle.directory}, {n_classes}"))
    return EXIT_OK


_INSPECT_EPILOG = """\
examples:
  audiotag inspect data/*.tfrecord --plot classes.png    clips, labels, and what is damaged
  audiotag inspect data/ --labels classes.csv --json
  audiotag inspect runs/gru-1 audioset-gru               bundles: whole? trained on what?
  audiotag inspect sounds/                               formats, durations, what cannot be read

exit status:
  0 all is well    1 something is damaged or cannot be read    2 nothing could be done
"""


def _add_inspect(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="what is in files of frames, bundles and sounds",
        description="Say what is in files of frames, bundles and sound files.",
        epilog=_INSPECT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        type=_name,
        nargs="+",
        metavar="FILE",
        help="files, directories, bundles, 'patterns'",
    )
    _add_labels_option(parser, "names of the classes (default: AudioSet's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw it (.png, .svg, .pdf)")
    _add_common(parser)
    parser.set_defaults(run=_run_inspect)


def _run_inspect(options: argparse.Namespace) -> int:
    from classifier.inspection import inspect_paths
    from classifier.inspection_plot import plot_inspection
    from classifier.labels import audioset_labels, read_labels
    from classifier.pictures import check_drawable

    if options.plot is None:
        _need_stdout()
    else:
        _check_writable(options.plot, "--plot")
        check_drawable(options.plot)
    labels = audioset_labels() if options.labels is None else read_labels(options.labels)
    found = inspect_paths(options.files, labels, for_picture=options.plot is not None)
    if options.json:
        _print_result(_json([inspection.as_json() for inspection in found]))
    else:
        _print_result(_printable("\n\n".join("\n".join(one.lines()) for one in found)))
    if options.plot is not None:
        plot_inspection(found[0], options.plot)
    return EXIT_OK if all(one.is_good for one in found) else EXIT_SOME_FAILED


def _read_json(path: Path) -> dict[str, Any]:
    import json

    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"cannot read {path} as a JSON object: {error}") from error


def _json(value: object, indent: int | None = 2) -> str:
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


@contextlib.contextmanager
def _counting_bar(
    options: argparse.Namespace, what: str, total: int | None
) -> Iterator[Callable[[int], None]]:
    """A progress bar over a count on a terminal, and nothing elsewhere."""
    if options.quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def _report(options: argparse.Namespace, line: str) -> None:
    if not options.quiet:
        print(_printable(f"audiotag: {line}"), file=sys.stderr)


# --- audiotag weights --------------------------------------------------------------------


_WHICH = "which weights (default: vggish)"


def _add_weights(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "weights",
        help="fetch, install and check networks",
        description="Get VGGish's weights onto this machine, and look after them. They live in"
        " $AUDIOTAG_HOME (default ~/.cache/audiotag). The small embedder mini is built in.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        action.set_defaults(run=run)
        _add_common(action)
        return action

    def add_install_options(action: argparse.ArgumentParser) -> None:
        action.add_argument(
            "--calibration",
            nargs="+",
            default=[],
            metavar="SOUND",
            help="recordings to calibrate int8 on (default: those that come with audiotag)",
        )
        action.add_argument(
            "--manifest",
            type=Path,
            metavar="FILE",
            help="another list of known weights, such as one with the URLs of a mirror",
        )
        action.add_argument(
            "--force", action="store_true", help="install again what is installed already"
        )

    add("list", _weights_list, "show which weights are known and installed")
    fetch = add("fetch", _weights_fetch, "download weights, convert, check and install them")
    fetch.add_argument("name", nargs="?", default="vggish", metavar="NAME", help=_WHICH)
    add_install_options(fetch)
    install = add("install", _weights_install, "install weights from files fetched elsewhere")
    install.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="vggish_model.ckpt, and vggish_pca_params.npz unless it lies beside it",
    )
    install.add_argument("--name", default="vggish", help=_WHICH)
    add_install_options(install)
    for name, run, summary in (
        ("verify", _weights_verify, "check installed weights against their checksums"),
        ("path", _weights_path, "print the directory of installed weights"),
    ):
        action = add(name, run, summary)
        action.add_argument(
            "name", nargs="?", default="vggish", metavar="NAME", help="vggish (default) or mini"
        )


def _weights_list(options: argparse.Namespace) -> int:
    from vggish.errors import WeightsNotInstalledError
    from vggish.weights import find_installed, known_weights

    for known in known_weights().values():
        print(f"{known.name}: {known.description} ({known.licence})")
        try:
            installed = find_installed(known.name)
        except WeightsNotInstalledError:
            print(f"  not installed; get it with: audiotag weights fetch {known.name}")
        except AudiotagError as error:
            print(f"  damaged: {error}")
        else:
            _print_installed(installed)
            if not installed.is_made_from(known):
                print("  these are NOT the weights described above: another manifest was used")
    _print_mini()
    return EXIT_OK


def _print_mini() -> None:
    from vggish.mini import find_mini

    try:
        mini = find_mini()
    except AudiotagError as error:
        print(f"mini: the small embedder that comes with audiotag\n  {error}")
        return
    print(f"mini: the small embedder that comes with audiotag ({mini.licence})")
    print(
        f"  built in, version {mini.version}, {mini.precision}, {mini.n_parameters:,} parameters, "
        f"{mini.size / 2**20:.1f} MiB in {mini.directory}"
    )
    print(f"  sha256 {mini.sha256}")


def _weights_fetch(options: argparse.Namespace) -> int:
    from vggish.weights import choose_known, fetch

    known = choose_known(options.name, options.manifest)
    with _native_logs_hidden(options), _download_bar(options) as on_progress:
        installed = fetch(
            known,
            _reporter(options),
            on_progress,
            calibration=[Path(sound) for sound in options.calibration],
            force=options.force,
        )
    _tell_installed(options, installed)
    return EXIT_OK


def _weights_install(options: argparse.Namespace) -> int:
    from vggish.weights import choose_known, install

    known = choose_known(options.name, options.manifest)
    with _native_logs_hidden(options):
        installed = install(
            known,
            options.files,
            _reporter(options),
            calibration=[Path(sound) for sound in options.calibration],
            force=options.force,
        )
    _tell_installed(options, installed)
    return EXIT_OK


def _weights_verify(options: argparse.Namespace) -> int:
    from vggish.mini import MINI, verify_mini
    from vggish.weights import verify

    if options.name == MINI:
        mini = verify_mini()
        if not options.quiet:
            print(f"{MINI}: 1 file in {mini.directory}, all right")
        return EXIT_OK
    installed = verify(options.name)
    if not options.quiet:
        print(f"{options.name}: {len(installed.files)} files in {installed.directory}, all right")
    return EXIT_OK


def _weights_path(options: argparse.Namespace) -> int:
    from vggish.mini import MINI, find_mini
    from vggish.weights import find_installed

    found = find_mini() if options.name == MINI else find_installed(options.name)
    print(found.directory)
    return EXIT_OK


def _tell_installed(options: argparse.Namespace, installed: InstalledWeights) -> None:
    if not options.quiet:
        print(f"{installed.name} is installed and checked")
        _print_installed(installed)


def _print_installed(installed: InstalledWeights) -> None:
    size = sum(file.size for file in installed.files.values()) / 2**20
    fidelity = installed.facts["int8_fidelity"]
    print(f"  installed {installed.facts['installed_at']} in {installed.directory}, {size:.0f} MiB")
    print(f"  checkpoint sha256 {installed.checkpoint_sha256}")
    print(
        f"  int8 against float32, after PCA: cosine {fidelity['cosine_after_pca']:.4f}, "
        f"mean change {fidelity['mean_absolute_change']:.2f} of 255"
    )


def _reporter(options: argparse.Namespace) -> Callable[[str], None]:
    return functools.partial(_report, options)


@contextlib.contextmanager
def _native_logs_hidden(options: argparse.Namespace) -> Iterator[None]:
    """Keep what TensorFlow's C++ side writes to stderr off the screen; ours still gets there."""
    if options.debug:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    python_stderr = sys.stderr
    try:
        # Line by line, also into a log.
        with os.fdopen(
            os.dup(terminal), "w", buffering=1, encoding="utf-8", errors="replace"
        ) as ours:
            sys.stderr = ours
            yield
    finally:
        sys.stderr = python_stderr
        os.dup2(terminal, 2)
        os.close(terminal)


@contextlib.contextmanager
def _download_bar(options: argparse.Namespace) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for a download on a terminal, and nothing elsewhere."""
    if options.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(done: int, total: int) -> None:
            if not bar.tasks[0].visible:
                # Another file; what an earlier attempt brought must not count as speed.
                bar.reset(task, total=total, completed=done)
            bar.update(task, completed=done, visible=done < total)

        yield show


if __name__ == "__main__":
    sys.exit(main())
