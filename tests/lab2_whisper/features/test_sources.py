"""Sources: each kind lists and reads clips; each bad line is a counted drop or a clear error."""

import io
import json
import os
import sys
import tarfile
import tempfile
import types
from dataclasses import replace
from pathlib import Path
from typing import get_args
from unittest import mock

import datacollective
import datasets
import pytest
from helpers import hostile
from helpers.speech import line, mp3, release, tone, wav
from hypothesis import given, settings
from hypothesis import strategies as st

from lab2_whisper.features import sources
from lab2_whisper.features.sources import Drop, common_voice, data_collective, own_recordings
from lab2_whisper.schema import DropReason, LabError
from lab2_whisper.text import normalise

CLIP = mp3(0.3)


def reasons(source):
    """Return the drops of listing and reading, as {clip id: reason}, and the bytes that were read."""
    clips, drops = source.listing()
    read = dict(source.read(clips))
    drops = drops + [data for data in read.values() if isinstance(data, Drop)]
    assert {drop.reason for drop in drops} <= set(get_args(DropReason))
    whole = {clip.clip_id: data for clip, data in read.items() if not isinstance(data, Drop)}
    return {drop.clip_id: drop.reason for drop in drops}, whole


def pack(folder: Path, archive: Path, first: str = "clips") -> Path:
    """Pack a release as tar.gz, with clips before the tables or after."""
    with tarfile.open(archive, "w:gz") as tar:
        files = sorted(folder.rglob("*.*"), key=lambda f: (f.parent.name != first, f.name))
        for file in files:
            if file.is_file():
                tar.add(file, file.relative_to(folder.parent))
    return archive


@pytest.fixture
def small(tmp_path):
    tables = {
        "train": [line("a.mp3", "Ala ma kota", "s1"), line("b.mp3", "Dwa", "s2")],
        "dev": [line("c.mp3", "Trzy", "s3")],
        "test": [line("d.mp3", "Cztery", "s4")],
        "validated": [],
    }
    return release(tmp_path, tables, {f"{name}.mp3": CLIP for name in "abcd"})


def test_a_release_folder_lists_its_clips(small):
    clips, drops = common_voice(small).listing()
    assert not drops
    assert [c.split for c in clips] == ["train", "train", "validation", "test"]
    assert clips[0].text == "Ala ma kota"
    assert common_voice(small).name == "cv-corpus-26.0"
    assert common_voice(small / "pl").listing() == common_voice(small).listing()


@pytest.mark.parametrize("first", ["clips", "pl"])
def test_an_archive_gives_the_same_clips_in_any_order(small, tmp_path, first):
    archive = common_voice(pack(small, tmp_path / "cv.tar.gz", first))
    clips, drops = archive.listing()
    assert not drops
    unpacked = [replace(clip, stamp="") for clip in common_voice(small).listing()[0]]
    assert sorted(clips, key=str) == sorted(unpacked, key=str)
    assert [clip for clip, _ in archive.read(clips)] == clips
    assert all(data == CLIP for _, data in archive.read(clips))
    assert [c.clip_id for c, _ in archive.read(clips[2:])] == [c.clip_id for c in clips[2:]]
    assert sorted(os.listdir(tmp_path)) == ["cv-corpus-26.0", "cv.tar.gz"]  # nothing unpacked


def test_release_11_with_fewer_columns_is_read(tmp_path):
    home = release(tmp_path, {}, {"a.mp3": CLIP})
    header = (
        "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\tsegment"
    )
    (home / "pl" / "train.tsv").write_text(f"{header}\ns\ta.mp3\tRaz\t2\t0\t\t\t\tpl\t\n")
    clips, drops = common_voice(home).listing()
    assert (clips[0].text, clips[0].speaker, drops) == ("Raz", "s", [])


BAD_LINES = {
    "quoted.mp3": (line("quoted.mp3", '"Tak", powiedział "on'), CLIP, None),
    "absent.mp3": (line("absent.mp3"), None, "listed but absent"),
    "empty.mp3": (line("empty.mp3"), b"", "empty file"),
    "../../../secret.mp3": (line("../../../secret.mp3"), None, "path outside the folder"),
    "/etc/passwd": (line("/etc/passwd"), None, "path outside the folder"),
    "nul\0.mp3": (line("nul\0.mp3"), None, "listed but absent"),
}


@pytest.mark.parametrize("archive", [False, True])
def test_bad_lines_are_counted(tmp_path, archive):
    (tmp_path / "secret.mp3").write_bytes(CLIP)
    lines = [text for text, _, _ in BAD_LINES.values()]
    lines += [line("tab.mp3", "jeden\tdwa"), line("quoted.mp3", "drugi raz"), "", "kurz"]
    clips = {name: data for name, (_, data, _) in BAD_LINES.items() if data is not None}
    home = release(tmp_path, {"train": lines}, clips)
    drops, read = reasons(common_voice(pack(home, tmp_path / "x.tgz") if archive else home))
    expected = {n.removesuffix(".mp3"): why for n, (_, _, why) in BAD_LINES.items() if why}
    expected |= {"train.tsv:8": "malformed line", "train.tsv:11": "malformed line"}
    assert drops == expected | {"quoted": "listed twice"}
    assert list(read) == ["quoted"]


def test_a_clip_of_train_and_test_stays_in_test_only(tmp_path):
    tables = {"train": [line("a.mp3"), line("b.mp3")], "test": [line("a.mp3")], "dev": []}
    clips, drops = common_voice(release(tmp_path, tables, {})).listing()
    assert {clip.clip_id: clip.split for clip in clips} == {"a": "test", "b": "train"}
    assert [(drop.clip_id, drop.detail) for drop in drops] == [("a", "train: a.mp3")]


def test_quotes_stay_in_the_text(tmp_path):
    text = '"Tak", powiedział "on'
    home = release(tmp_path, {"train": [line("a.mp3", text)]}, {"a.mp3": CLIP})
    assert common_voice(home).listing()[0][0].text == text


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.mp3").write_bytes(CLIP)
    home = release(tmp_path, {"train": [line("link.mp3")]}, {})
    (home / "pl" / "clips" / "link.mp3").symlink_to(tmp_path / "secret.mp3")
    assert reasons(common_voice(home))[0] == {"link": "path outside the folder"}
    assert reasons(common_voice(pack(home, tmp_path / "l.tgz")))[0] == {"link": "listed but absent"}


def test_archive_members_outside_the_folder_are_not_written(small, tmp_path):
    evil = tmp_path / "evil.tar.gz"
    pack(small, evil)
    with tarfile.open(tmp_path / "evil2.tar.gz", "w:gz") as tar:
        for name in ("../../../pl/clips/a.mp3", "/pl/clips/b.mp3"):
            member = tarfile.TarInfo(name)
            member.size = len(CLIP)
            tar.addfile(member, io.BytesIO(CLIP))
        tar.add(small / "pl" / "train.tsv", "x/pl/train.tsv")
    drops, read = reasons(common_voice(tmp_path / "evil2.tar.gz"))
    assert not drops
    assert sorted(read) == ["a", "b"]
    assert not (tmp_path.parent.parent / "pl").exists()


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    home = release(tmp_path, {"train": [line("huge.mp3")]}, {})
    with (home / "pl" / "clips" / "huge.mp3").open("wb") as file:
        file.truncate(3 << 30)
    assert reasons(common_voice(home))[0] == {"huge": "file too large"}


def test_a_truncated_archive_is_a_clear_error(small, tmp_path):
    archive = pack(small, tmp_path / "cv.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(LabError, match="damaged or not a whole"):
        common_voice(archive).listing()
    archive.write_bytes(b"<html>404</html>")
    with pytest.raises(LabError, match="damaged or not a whole"):
        common_voice(archive).listing()


@pytest.mark.parametrize("headers", [
    {"GNU.sparse.map": "a,b"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    {"GNU.sparse.size": "x", "GNU.sparse.major": "0", "GNU.sparse.minor": "1"},
])  # fmt: skip
def test_a_hostile_archive_is_a_clear_error(tmp_path, headers):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("cv/pl/train.tsv")
        member.pax_headers, member.size = headers, 2_000
        tar.addfile(member, io.BytesIO(b"x" * 2_000))
    with pytest.raises(LabError, match="damaged or not a whole"):
        common_voice(archive).listing()


READ = """
import json, resource, sys
from lab2_whisper.features.sources import common_voice
from lab2_whisper.schema import LabError
from helpers.hostile import limit

limit()
for archive in sys.argv[1:]:
    try:
        clips, drops = common_voice(archive).listing()
        answer = f"{len(clips)} clips, {len(drops)} drops"
    except LabError as error:
        answer = str(error)
    print(json.dumps(answer))
"""


def test_a_small_archive_cannot_take_the_memory_or_the_time(tmp_path):
    """Bombs, each of less than 4 MiB: tables, headers and files of up to a petabyte."""
    paths = [tmp_path / f"{name}.tar.gz" for name in hostile.BOMBS]
    for path in paths:
        path.write_bytes(hostile.BOMBS[path.name.removesuffix(".tar.gz")]())
        assert path.stat().st_size < 4 << 20
    printed = hostile.run_limited(READ, *paths, memory_mib=256, seconds=30).splitlines()
    for path, answer in zip(paths, map(json.loads, printed), strict=True):
        assert answer.startswith(f"{path} ") and "\n" not in answer and len(answer) < 400


@pytest.mark.parametrize(("name", "why"), [
    ("table", "more than 100 times its size"), ("header", "a header of 3221225472 bytes"),
    ("name", "a header of 3221225472 bytes"), ("hole", "a sparse file"), ("claim", "cut short"),
])  # fmt: skip
def test_the_reason_why_an_archive_is_refused_is_given(tmp_path, name, why):
    archive = tmp_path / "cv.tar.gz"
    archive.write_bytes(hostile.BOMBS[name]())
    with pytest.raises(LabError, match=f"damaged or not a whole tar.gz .*{why}.* Download it"):
        common_voice(archive).listing()


ANY_ARCHIVE = """
import sys, tempfile
from pathlib import Path
from helpers import hostile
from lab2_whisper.features.sources import common_voice
from lab2_whisper.schema import LabError

def any_archive(seed):
    data = hostile.random_archive(seed, zipped=seed % 2 == 0)
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        archive = Path(folder, "cv.tar.gz")
        archive.write_bytes(data)
        with hostile.nothing_written(Path(sys.argv[1]), except_in=Path("/nowhere")):
            try:
                source = common_voice(archive)
                for clip, content in source.read(source.listing()[0]):
                    answers.add("read")
            except LabError as error:
                assert "\\n" not in str(error) and len(str(error)) < 600, error
                answers.add(str(error).partition("(")[2].partition(")")[0][:20])

answers = set()
hostile.limit()
for seed in range(500):
    print("seed", seed, file=sys.stderr)
    any_archive(seed)
print(len(answers), "read" in answers)
"""


def test_any_archive_is_clips_or_one_sentence(tmp_path):
    printed = hostile.run_limited(ANY_ARCHIVE, tmp_path, memory_mib=128)
    reasons, read = printed.split()
    assert int(reasons) > 5 and read == "True"


def test_a_header_that_is_broken_in_the_middle_is_not_the_end(small, tmp_path):
    """tarfile takes it for the end of the archive, and what follows would be lost in silence."""
    archive = tmp_path / "cv.tar"
    clips = hostile.file("cv/pl/clips/a.mp3", CLIP)
    table = hostile.file(hostile.TABLE, hostile.HEADER + b"s\ta.mp3\tRaz\n")
    broken = bytearray(hostile.file("cv/pl/clips/b.mp3", CLIP))
    broken[0] ^= 1
    archive.write_bytes(table + broken + clips + bytes(1024))
    with pytest.raises(LabError, match="damaged or not a whole"):
        common_voice(archive).listing()


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_long_names_are_read_in_every_layout_of_tar(tmp_path, layout, mode):
    name = f"{'a' * 80}/{'b' * 60}/pl/clips/{'c' * 90}.mp3"
    with tarfile.open(tmp_path / "cv.tar.gz", mode, format=layout) as tar:
        for path, data in {
            "cv/pl/train.tsv": f"client_id\tpath\tsentence\ns\t{Path(name).name}\tRaz\n".encode(),
            name: CLIP,
        }.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    source = common_voice(tmp_path / "cv.tar.gz")
    assert [data for _, data in source.read(source.listing()[0])] == [CLIP]


@pytest.mark.parametrize("archive", [False, True])
def test_a_table_is_limited_in_memory(small, tmp_path, monkeypatch, archive):
    monkeypatch.setattr(sources, "MAX_TABLE_BYTES", 3 * sources.CLIP_BYTES)
    with pytest.raises(LabError, match=r"train.tsv takes up more than .* Download the release"):
        common_voice(pack(small, tmp_path / "x.tgz") if archive else small).listing()


@pytest.mark.parametrize("archive", [False, True])
def test_an_endless_line_is_not_held_in_memory(small, tmp_path, monkeypatch, archive):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 1_000)
    table = small / "pl" / "train.tsv"
    head, first, second = table.read_text(encoding="utf-8").splitlines()
    long = line("long.mp3", "x" * 5_000)
    # the last piece of this one alone would be a row
    tricky = "x" * 1_000 + line("tricky.mp3")
    table.write_text("\n".join([head, first, long, tricky, second]) + "\n", encoding="utf-8")
    clips, drops = common_voice(pack(small, tmp_path / "x.tgz") if archive else small).listing()
    assert [clip.clip_id for clip in clips if clip.split == "train"] == ["a", "b"]
    assert [drop.clip_id for drop in drops] == ["train.tsv:3", "train.tsv:4"]
    assert drops[0].detail == "longer than 1000 bytes"


def test_an_endless_header_is_cut_in_the_error(small):
    (small / "pl" / "train.tsv").write_bytes(b"client_id\t" + b"x" * 3_000_000)
    with pytest.raises(LabError, match="no column 'path'") as error:
        common_voice(small).listing()
    assert len(str(error.value)) < 1_000


def test_a_missing_column_is_named(tmp_path):
    home = release(tmp_path, {}, {})
    (home / "pl" / "train.tsv").write_text("client_id\tpath\ttext\n")
    with pytest.raises(LabError, match=r"no column 'sentence'.*client_id, path, text"):
        common_voice(home).listing()


@settings(deadline=None)  # it writes files
@given(st.binary())
def test_any_bytes_in_a_table_are_clips_or_counted(data):
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "cv" / "pl" / "train.tsv"
        table.parent.mkdir(parents=True)
        table.write_bytes(b"client_id\tpath\tsentence\ns\ta.mp3\tRaz\n" + data)
        clips, drops = common_voice(table.parents[1]).listing()
    lines = [part for part in data.split(b"\n") if part.strip(b"\r")]
    assert len(clips) + len(drops) == 1 + len(lines)


def test_a_missing_locale_or_release_is_a_clear_error(small, tmp_path):
    with pytest.raises(LabError, match=r"locale 'de' .*in it: pl"):
        common_voice(small, "de")
    with pytest.raises(LabError, match=r"locale 'de' .*in it: pl"):
        common_voice(pack(small, tmp_path / "cv.tar.gz"), "de").listing()
    with pytest.raises(LabError, match="no Common Voice release at"):
        common_voice(tmp_path / "nothing")
    with pytest.raises(LabError, match="locales in it: none"):
        common_voice(tmp_path / "cv-corpus-26.0" / "pl" / "clips")


def test_a_release_without_splits_is_split_by_speaker(tmp_path):
    lines = [line(f"{i}.mp3", speaker=f"s{i % 10}") for i in range(100)]
    home = release(tmp_path, {"validated": lines, "train": []}, {})
    clips, _ = common_voice(home).listing()
    speakers = {s: {c.speaker for c in clips if c.split == s} for s in sources.SPLITS}
    assert all(speakers.values())
    assert sum(map(len, speakers.values())) == 10  # nobody in two


def test_few_speakers_are_split_as_far_as_possible():
    def clips(*speakers):
        return [sources.Clip(str(i), "", "", s, "") for i, s in enumerate(speakers)]

    assert {c.split for c in sources.split_by_speaker(clips("a", "a"))} == {"train"}
    assert {c.split for c in sources.split_by_speaker(clips("a", "b"))} == {"train", "test"}


# --------------------------------------------------------------------------- own recordings


def test_own_recordings_are_listed_and_read(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        'file;text;speaker\nania.wav;"Dzień dobry; cześć";ania\n'
        "jan.wav;Tak;jan\nbrak.wav;Nie;jan\n",
        encoding="utf-8-sig",
    )
    for name in ("ania.wav", "jan.wav"):
        (tmp_path / name).write_bytes(wav(tone()))
    source = own_recordings(tmp_path)
    drops, read = reasons(source)
    assert drops == {"brak.wav": "listed but absent"}
    assert sorted(read) == ["ania.wav", "jan.wav"]
    assert source.listing()[0][0].text == "Dzień dobry; cześć"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, "There is no .*metadata.csv"),
        (b"name,words\na,b\n", "no column 'file'"),
        (b"", "no column 'file'"),
        (b"file,text,split\na.wav,b,dni\n", "line 2: the split is 'dni' but must be one of train"),
        ("file,text\na.wav,żółć\n".encode("cp1250"), "UTF-8"),
        (b'file,text\na.wav,"raz\nb.wav,dwa\n', "metadata.csv, line 3: .*Is a quote not closed"),
        (b'file,text\na.wav,"raz" dwa\nb.wav,c\n', "metadata.csv, line 2: .*Is a quote"),
        (b"file,text\na.wav," + b"x" * 200_000, "metadata.csv, line 2: field larger"),
        (
            b"file,text,split\na.wav,b,test\nb.wav,b,\n",
            "some clips a split, but not b.wav .*by speaker",
        ),
    ],
)
def test_a_bad_table_is_explained(tmp_path, table, sentence):
    if table is not None:
        (tmp_path / "metadata.csv").write_bytes(table)
    with pytest.raises(LabError, match=sentence):
        own_recordings(tmp_path).listing()


def test_cells_may_hold_line_breaks(tmp_path):
    text = 'file,text,speaker\na.wav,"jeden\r\ndwa", ania \nb.wav,a\u2028b\x85c\x0bd,ania\n,x,\n'
    (tmp_path / "metadata.csv").write_bytes(text.encode())
    clips, drops = own_recordings(tmp_path).listing()
    assert [normalise(clip.text) for clip in clips] == ["jeden dwa", "a b c d"]
    assert {clip.speaker for clip in clips} == {"ania"}
    assert [drop.clip_id for drop in drops] == ["metadata.csv:5"]  # the line in an editor


def test_a_stamp_changes_when_a_file_is_replaced(tmp_path):
    (tmp_path / "metadata.csv").write_text("file,text\na.wav,raz\nb.wav,dwa\nx\0.wav,trzy\n")
    (tmp_path / "a.wav").write_bytes(CLIP)
    first, absent, never = own_recordings(tmp_path).listing()[0]
    assert first.stamp.startswith(f"{len(CLIP)} bytes")
    assert absent.stamp == never.stamp == "absent"
    os.utime(tmp_path / "a.wav", ns=(1, 1))
    assert own_recordings(tmp_path).listing()[0][0].stamp != first.stamp


def test_bad_rows_of_a_table_are_counted(tmp_path):
    (tmp_path / "metadata.csv").write_text("file,text\n../../x.wav,a\nb.wav,c,d\n,e\nf.wav\n")
    drops, _ = reasons(own_recordings(tmp_path))
    assert drops == {
        "../../x.wav": "path outside the folder",
        "metadata.csv:3": "malformed line",
        "metadata.csv:4": "malformed line",
        "f.wav": "listed but absent",
    }


# -------------------------------------------------------------------- Mozilla Data Collective


@pytest.fixture
def collective(monkeypatch):
    monkeypatch.setenv("MDC_API_KEY", "key")
    client = mock.create_autospec(datacollective.download_dataset)
    monkeypatch.setattr(datacollective, "download_dataset", client)
    return client


def test_the_data_collective_downloads_an_archive(collective, small, tmp_path):
    collective.return_value = pack(small, tmp_path / "cv.tar.gz")
    source = data_collective("common-voice-polish", folder=tmp_path)
    collective.assert_called_once_with(
        "common-voice-polish", download_directory=str(tmp_path), extract=False
    )
    assert len(source.listing()[0]) == 4


def test_without_a_key_nothing_is_downloaded(collective, monkeypatch):
    monkeypatch.delenv("MDC_API_KEY")
    with pytest.raises(LabError, match="MDC_API_KEY is not set"):
        data_collective("slug")
    collective.assert_not_called()


def test_colabs_secrets_are_used(collective, monkeypatch, small, tmp_path):
    monkeypatch.setenv("MDC_API_KEY", "")
    userdata = types.SimpleNamespace(get={"MDC_API_KEY": "from colab"}.__getitem__)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(userdata=userdata))
    collective.return_value = pack(small, tmp_path / "cv.tar.gz")
    data_collective("slug")
    assert os.environ["MDC_API_KEY"] == "from colab"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError("Access denied"), "accept its terms"),
        (FileNotFoundError("404"), "has no data set 'slug'"),
        (datacollective.errors.AuthenticationError("key is invalid"), "key is invalid"),
        (datacollective.errors.DownloadError(1, 2, 10, "sum"), "continues where it stopped"),
        (OSError(28, "No space left on device"), "No space left"),
        (ConnectionError("no network"), "no network"),
    ],
)
def test_each_failure_is_a_clear_error(collective, error, sentence):
    collective.side_effect = error
    with pytest.raises(LabError, match=sentence):
        data_collective("slug")


# ------------------------------------------------------------------------------------- Hub


def parquet(folder: Path) -> str:
    """Write a Parquet file like the Hub's: audio as bytes and path, marked as an Audio feature."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"client_id": "s1", "path": "a.mp3", "audio": {"bytes": CLIP, "path": "a.mp3"}},
        {"client_id": "s2", "path": "b.mp3", "audio": {"bytes": None, "path": "b.mp3"}},
    ]
    table = pa.Table.from_pylist([row | {"sentence": "Raz"} for row in rows])
    marks = datasets.Features(
        {name: datasets.Value("string") for name in ("client_id", "path", "sentence")}
        | {"audio": datasets.Audio(sampling_rate=48_000)}
    )
    about = {b"huggingface": json.dumps({"info": {"features": marks.to_dict()}})}
    path = folder / "test.parquet"
    pq.write_table(table.replace_schema_metadata(about), path)
    return str(path)


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """Replace the loader by one that returns a local Parquet file, with the same signature."""
    real, file = datasets.load_dataset, parquet(tmp_path)
    loaded = real("parquet", data_files={"test": file}, cache_dir=str(tmp_path / "cache"))
    client = mock.create_autospec(real, return_value=loaded)
    monkeypatch.setattr(datasets, "load_dataset", client)
    return client


def test_a_mirror_of_common_voice_is_listed_and_read(mirror):
    source = sources.hub("owner/cv15", config="pl", speaker="client_id", clip_id="path")
    drops, read = reasons(source)
    mirror.assert_called_with("owner/cv15", "pl", revision=None)
    assert drops == {"test/b.mp3": "listed but absent"}
    assert read == {"test/a.mp3": CLIP}
    assert source.listing()[0][0].speaker == "s1"


def test_a_data_set_with_only_train_is_split_by_speaker(mirror):
    rows = [{"path": f"{i}/a.mp3" if i else None, "who": i % 5, "sentence": "Raz",
             "audio": {"bytes": CLIP}} for i in range(20)]  # fmt: skip
    train = datasets.Dataset.from_list(rows)
    mirror.return_value = datasets.DatasetDict(train=train)
    source = sources.hub("owner/x", speaker="who", clip_id="path")
    clips, drops = source.listing()
    assert not drops
    assert [clip.clip_id for clip in clips[:2]] == ["train_0", "train/1/a.mp3"]
    speakers = {s: {c.speaker for c in clips if c.split == s} for s in sources.SPLITS}
    assert all(speakers.values())
    assert sum(map(len, speakers.values())) == 5  # nobody in two
    assert all(data == CLIP for _, data in source.read(clips))
    assert {c.split for c in sources.hub("owner/x").listing()[0]} == {"train"}


def test_fleurs_is_loaded_from_its_parquet_branch(mirror):
    with pytest.raises(LabError, match=r"no column 'raw_transcription'.*client_id"):
        sources.fleurs().listing()
    mirror.assert_called_with("google/fleurs", "pl_pl", revision="refs/convert/parquet")


@pytest.mark.parametrize(
    "error", [datasets.exceptions.DatasetNotFoundError("gone"), ConnectionError("no network"),
              RuntimeError("Dataset scripts are no longer supported")]
)  # fmt: skip
def test_a_data_set_that_is_gone_is_a_clear_error(mirror, error):
    mirror.side_effect = error
    with pytest.raises(LabError, match=f"did not give owner/x .*{error}"):
        sources.hub("owner/x").listing()
