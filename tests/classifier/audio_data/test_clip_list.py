from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from classifier.audio_data.clip_list import read_clip_list
from classifier.labels import Labels, audioset_labels
from vggish.errors import OptionError

DOG_CAT = Labels(("cat", "dog"), ("", ""))


def test_each_folder_is_a_class_and_is_searched_recursively(folder: Path) -> None:
    found = read_clip_list(folder)
    assert found.labels == DOG_CAT
    assert [(sound.clip_id, sound.labels, sound.fold) for sound in found.clips] == [
        ("cat/a.wav", (0,), None),
        ("dog/a.wav", (1,), None),
        ("dog/far/b.flac", (1,), None),
    ]
    assert [sound.path for sound in found.clips] == [
        folder / sound.clip_id for sound in found.clips
    ]
    assert all(sound.is_whole for sound in found.clips)
    assert found.leftovers == ()


def test_other_files_are_reported_and_ignored(folder: Path) -> None:
    (folder / "README.txt").write_text("")
    (folder / "dog" / "notes.txt").write_text("")
    (folder / "notes").mkdir()
    (folder / ".hidden").mkdir()
    found = read_clip_list(folder)
    assert found.labels == DOG_CAT
    assert list(found.leftovers) == [
        f"{folder / 'README.txt'}: not an audio file",
        f"{folder / 'dog' / 'notes.txt'}: not an audio file",
        f"{folder / 'notes'}: no audio files found",
    ]


def test_audio_files_outside_the_class_folders_are_rejected_with_a_hint(
    folder: Path, write_sound: Any
) -> None:
    for number in range(7):
        write_sound(f"sounds/{number}.wav", seconds=0.1)
    with pytest.raises(OptionError) as error:
        read_clip_list(folder)
    assert str(error.value).splitlines() == [
        f"7 audio files in {folder} are not in the folder of a class:",
        *(f"  {number}.wav" for number in range(5)),
        "  and 2 more",
        f"Use a folder per class, as in {folder / 'dog' / 'a.wav'}, or a CSV",
    ]


def test_sources_without_clips_or_with_one_class_are_rejected(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=r"no folder in .*empty has audio files"):
        read_clip_list(tmp_path / "empty")
    shutil.rmtree(folder / "cat")
    with pytest.raises(OptionError, match=r"has only one class, 'dog' \(2 clips\)"):
        read_clip_list(folder)
    with pytest.raises(OptionError, match=r"cannot read the list of clips .*: No such file"):
        read_clip_list(tmp_path / "nowhere.csv")
    with pytest.raises(OptionError, match=r"a\.wav is an audio file; training needs a folder"):
        read_clip_list(folder / "dog" / "a.wav")


def test_given_labels_keep_their_indices_and_unknown_classes_are_reported(folder: Path) -> None:
    labels = Labels(("wolf", "Dog", "Cat"), ("", "/m/0bt9lr", ""))
    found = read_clip_list(folder, labels)
    assert found.labels is labels
    assert [sound.labels for sound in found.clips] == [(2,), (1,), (1,)]
    (folder / "dog").rename(folder / "dgo")
    with pytest.raises(OptionError) as error:
        read_clip_list(folder, labels)
    assert "not among the 3 classes:\n" in str(error.value)
    assert "a.wav: no class 'dgo'; did you mean 'Dog'?" in str(error.value)


def test_unicode_forms_of_a_folder_name_are_one_class(tmp_path: Path, write_sound: Any) -> None:
    for number, form in enumerate(("NFC", "NFD")):
        name = unicodedata.normalize(form, "Vögel")  # type: ignore[arg-type]
        write_sound(f"sounds{number}/{name}/a.wav", seconds=0.1)
        write_sound(f"sounds{number}/cat/a.wav", seconds=0.1)
        assert read_clip_list(tmp_path / f"sounds{number}").labels.names == ("Vögel", "cat")


def test_csv_provides_labels_parts_and_folds(table: Any, folder: Path) -> None:
    found = read_clip_list(
        table(
            "path,labels,start,end,fold\n"
            "dog/a.wav,dog|bark,0.5,1.25,1\n"
            'cat/a.wav,"cat, purr",,,2.0\n'
            "dog/a.wav,dog; bark,1,,1\n"
            "\n"
            f"{folder / 'dog' / 'far' / 'b.flac'},,0,,\n"
        )
    )
    assert found.labels.names == ("bark", "cat", "dog", "purr")
    assert [
        (sound.clip_id, sound.labels, sound.start_seconds, sound.end_seconds, sound.fold)
        for sound in found.clips
    ] == [
        ("dog/a.wav@0.5-1.25", (2, 0), 0.5, 1.25, 1),
        ("dog/a.wav@1-", (2, 0), 1.0, None, 1),
        ("cat/a.wav", (1, 3), 0.0, None, 2),
        ("dog/far/b.flac", (), 0.0, None, None),
    ]
    assert found.clips[2].where == f"{folder / 'files.csv'}, line 3"
    assert found.leftovers == ()


@pytest.mark.parametrize(
    "text",
    [
        "labels,path\ndog,dog/a.wav\ncat,cat/a.wav\n",
        "\ufeffFilename, Label\n dog/a.wav , dog \ncat/a.wav,cat\n",
        "fname;category\ndog/a.wav;dog\ncat/a.wav;cat\n",
        "file\tclass\r\ndog/../dog/a.wav\tdog\r\ncat/a.wav\tcat\r\n\t\r\n",
        "label,file_name\ndog,./dog/a.wav\ncat,cat/a.wav",
    ],
)
def test_csv_files_of_other_tools_are_read(table: Any, text: str) -> None:
    found = read_clip_list(table(text))
    assert found.labels == DOG_CAT
    assert [(sound.clip_id, sound.labels) for sound in found.clips] == [
        ("dog/a.wav", (1,)),
        ("cat/a.wav", (0,)),
    ]


def test_paths_start_from_the_audio_root(table: Any, folder: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    path = table("fname,labels,mids,split\ndog\\a,dog,x,train\ncat/a,cat,x,val\n")
    path = path.rename(lists / "dev.csv")
    found = read_clip_list(path, audio_root=folder)
    assert [clip.clip_id for clip in found.clips] == ["dog/a.wav", "cat/a.wav"]
    assert [clip.path for clip in found.clips] == [folder / "dog/a.wav", folder / "cat/a.wav"]
    with pytest.raises(OptionError, match=f"2 of 2 .*missing(.|\\n)*{lists}; .*--audio-root"):
        read_clip_list(path)
    with pytest.raises(OptionError, match="--audio-root is for the paths of a CSV"):
        read_clip_list(folder, audio_root=folder)


def test_labels_of_rows_for_the_same_clip_are_merged(table: Any) -> None:
    found = read_clip_list(
        table("path,label,take\ndog/a.wav,dog,1\ncat/a.wav,cat,1\ndog/a.wav,bark,2\n")
    )
    assert [(sound.clip_id, sound.labels) for sound in found.clips] == [
        ("dog/a.wav", (2, 0)),
        ("cat/a.wav", (1,)),
    ]
    unused, merged = found.notes()
    assert unused.endswith("files.csv: unused columns: take")
    assert merged == "1 row for a clip that has one already; labels merged"


def test_known_names_with_commas_are_not_split(table: Any) -> None:
    text = (
        'path,labels\ndog/a.wav,"Child speech, kid speaking"\n'
        'cat/a.wav,"Child speech, kid speaking|Cat"\ndog/far/b.flac,"/m/09x0r,Dog,0"\n'
    )
    found = read_clip_list(table(text), audioset_labels())
    names = [[found.labels.names[index] for index in sound.labels] for sound in found.clips]
    assert names == [
        ["Child speech, kid speaking"],
        ["Child speech, kid speaking", "Cat"],
        ["Speech", "Dog"],
    ]


def test_numeric_classes_are_in_numerical_order(table: Any) -> None:
    found = read_clip_list(table("path,label\ndog/a.wav,10\ncat/a.wav,9\n"))
    assert found.labels.names == ("9", "10")
    assert [sound.labels for sound in found.clips] == [(1,), (0,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"needs the column path \(or filename.*\) and .* labels .*Received: an empty file",
        ),
        ("clip,tags\n", r"column path .*; optional: start, end, fold\. Received: clip, tags"),
        ("path,tags\n", r"needs the column labels \(or label, positive_labels, category, class\)"),
        ("path,labels\n", "has no rows below its header"),
        ("path,labels\ndog/a.wav,\n", "no clip in .* has a label"),
        ("path,labels\n,dog\n", "line 2: the path is empty"),
        ("path,labels\ndog/a.wav,dog,bark\n", r"line 2: 3 cells, but 2 columns.*dog\|bark"),
        ("path,labels\ndog/a.wav,dog\ncat/a.wav,Dog\n", "'Dog' .*line 3.* and 'dog' .*line 2"),
        ("path,labels,start\ndog/a.wav,dog,-1\n", "line 2: start must be seconds, .* '-1'"),
        ("path,labels,start\ndog/a.wav,dog,1:30\n", "line 2: start must be seconds.*'1:30'"),
        ("path,labels,end\ndog/a.wav,dog,inf\n", "line 2: end must be seconds"),
        (
            "path,labels,start,end\ndog/a.wav,dog,2,1.5\n",
            r"line 2: end must be after start \(2 s\)\. Received: 1\.5 s",
        ),
        ("path,labels,end\ndog/a.wav,dog,0\n", "line 2: end must be after start .*Received: 0 s"),
        ("path,labels,fold\ndog/a.wav,dog,a\n", "line 2: fold must be an integer.*'a'"),
        (
            "path,labels,fold\ndog/a.wav,dog,1\ndog/a.wav,bark,2\n",
            "line 3: the fold is 2, but 1 in .*line 2",
        ),
    ],
)
def test_invalid_csv_error_names_the_line(table: Any, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_clip_list(table(text))


def test_csv_that_is_not_utf8_is_rejected(table: Any) -> None:
    path = table("path,labels\ndog/a.wav,Vögel\n", encoding="latin-1")
    with pytest.raises(OptionError, match=r"cannot read the list of clips .*utf-8"):
        read_clip_list(path)


def test_files_in_the_folders_of_their_folds_are_found(table: Any, folder: Path) -> None:
    (folder / "fold2").mkdir()
    shutil.copy(folder / "cat" / "a.wav", folder / "fold2" / "1-0.wav")
    rows = "slice_file_name,start,end,fold,class\n1-0.wav,9,13,2,cat\ndog/a.wav,0,1,1,dog"
    found = read_clip_list(table(rows))
    assert [(clip.clip_id, clip.fold) for clip in found.clips] == [
        ("fold2/1-0.wav", 2),
        ("dog/a.wav", 1),
    ]
    assert "start and end are those in the original recordings; not used" in found.notes()[0]


def test_segments_of_audioset_name_files_that_were_cut(table: Any, folder: Path) -> None:
    rows = '# YTID, start_seconds, end_seconds, positive_labels\n--x, 30.0, 40.0, "/m/a,/m/b"\n'
    shutil.copy(folder / "cat" / "a.wav", folder / "--x.wav")
    found = read_clip_list(table(rows))
    assert [(clip.clip_id, clip.is_whole) for clip in found.clips] == [("--x.wav", True)]
    assert found.labels.names == ("/m/a", "/m/b")


def test_missing_files_are_named(table: Any, folder: Path) -> None:
    rows = [f"no/{number}.wav,dog,{start}" for number in range(8) for start in (0, 1)]
    path = table("\n".join(["path,labels,start", "cat/a.wav,cat,0", *rows]))
    with pytest.raises(OptionError) as error:
        read_clip_list(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"8 of 9 files in {path} are missing:"
    assert lines[1] == f"  {folder / 'no' / '0.wav'} ({path}, line 3)"
    assert lines[-2:] == [
        "  and 3 more",
        f"Relative paths start from {folder}; to change that, use --audio-root",
    ]
