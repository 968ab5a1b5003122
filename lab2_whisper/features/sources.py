"""Where speech comes from. Each source is one line in a notebook:

    common_voice("cv-corpus-26.0-2026-06-12.tar.gz")     a release: the archive, or unpacked
    data_collective("common-voice-scripted-...-polish-...")   a release, downloaded with MDC_API_KEY
    fleurs(), hub("owner/name", ...)                     Parquet on the Hugging Face Hub
    own_recordings("folder")                             your own, with a CSV

A source first lists all its clips (text, split, speaker), then reads their audio one by one. A
corpus of any size therefore needs little memory, and an archive is never unpacked to disk.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from lab2_whisper.features.archives import Content, Unzipped, plain_files
from lab2_whisper.schema import LANGUAGE, NANO_CORPUS, SPLITS, DropReason, LabError
from labstore import secret

RELEASE_SPLITS = {"train.tsv": "train", "dev.tsv": "validation", "test.tsv": "test"}
UNSPLIT = "validated.tsv"  # read where a release has no splits
RELEASE_COLUMNS = ("client_id", "path", "sentence")  # in every release since 11
HELD_OUT_SHARE = 0.1  # of the clips, each in validation and in test, where the lab splits
MAX_CLIP_BYTES = 32 << 20  # 30 s of 48 kHz stereo WAV are 6 MB
MAX_LINE_BYTES = 1 << 20  # of a table, many times a sentence
MAX_TABLE_BYTES = 4 << 30  # in memory; the largest, English with 2 million clips, takes half of it
CLIP_BYTES = 512  # what a line takes up in memory besides its text


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip as its source lists it; `key` is what the source finds its audio by.

    `stamp` is the size and time of a file that may change between two runs, or "absent".
    """

    clip_id: str
    text: str
    split: str  # one of SPLITS, or "" until it is decided
    speaker: str
    key: str
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """A clip that is left out, and why."""

    clip_id: str
    reason: DropReason
    detail: str = ""


Listing = tuple[list[Clip], list[Drop]]
Read = Iterator[tuple[Clip, bytes | Drop]]


class Source(Protocol):
    """A place where speech comes from."""

    @property
    def name(self) -> str:
        """The release or data set, as it is stored with each clip."""

    @property
    def locale(self) -> str:
        """A Common Voice locale, such as "pl"."""

    def listing(self) -> Listing:
        """Return all clips in the order in which `read` yields them, and what cannot be a clip."""

    def read(self, clips: Iterable[Clip]) -> Read:
        """Yield each clip with the bytes of its audio file, or with the reason why it has none.

        `clips` are some of the listing, in its order.
        """


# ------------------------------------------------------------------ the lines of a notebook


def common_voice(path: str | Path, locale: str = LANGUAGE) -> Source:
    """Return a Common Voice release, 11 or later: its tar.gz, or the folder it unpacks to.

    Raises LabError where there is no release, or a folder does not hold the locale.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return ReleaseArchive(path, locale)
    if path.is_dir():
        return ReleaseFolder(_locale_folder(path, locale), locale)
    raise LabError(
        f"There is no Common Voice release at {path}. Give the tar.gz or the folder it unpacks to, "
        "or download one with data_collective(SLUG)."
    )


def data_collective(slug: str, locale: str = LANGUAGE, folder: str | Path | None = None) -> Source:
    """Return a Common Voice release from the Mozilla Data Collective, downloaded once to `folder`.

    This needs the environment variable MDC_API_KEY, and the data set's terms accepted on its page.
    `folder` is by default the client's own (MDC_DOWNLOAD_PATH). Raises LabError, which says what to
    do, where the key is missing, the terms are not accepted or the download fails.
    """
    import datacollective  # it also reads a .env file

    if not secret("MDC_API_KEY"):
        raise LabError(
            "MDC_API_KEY is not set. Make a key at https://mozilladatacollective.com/api-reference "
            "and set it, in Colab under Secrets (the key icon), elsewhere with "
            "`export MDC_API_KEY=...`."
        )
    page = f"https://mozilladatacollective.com/datasets/{slug}"
    try:
        archive = datacollective.download_dataset(
            slug, download_directory=folder and str(folder), extract=False
        )
    except PermissionError as error:
        raise LabError(
            f"The Data Collective refuses {slug!r} ({error}). Log in, open {page}, accept its "
            "terms and run this again."
        ) from error
    except FileNotFoundError as error:
        raise LabError(
            f"The Data Collective has no data set {slug!r}. The slug is the last part of the "
            "address of its page on https://mozilladatacollective.com/datasets."
        ) from error
    except (datacollective.errors.DownloadError, RuntimeError, OSError, ValueError) as error:
        raise LabError(
            f"{slug!r} could not be downloaded ({_one_line(error)}). Run this again: the download "
            "continues where it stopped."
        ) from error
    return ReleaseArchive(Path(archive), locale)


def fleurs(locale: str = LANGUAGE, config: str | None = None) -> Source:
    """Return Google's FLEURS, sentences read aloud.

    Give its `config` where that is not the locale twice ("pl_pl"), such as "en_us" for "en".
    """
    return hub(
        "google/fleurs",
        config=config or f"{locale}_{locale}",
        revision="refs/convert/parquet",
        locale=locale,
        text="raw_transcription",
        clip_id="path",
    )


def hub(
    dataset: str,
    config: str | None = None,
    *,
    revision: str | None = None,
    locale: str = LANGUAGE,
    audio: str = "audio",
    text: str = "sentence",
    speaker: str | None = None,
    clip_id: str | None = None,
) -> Source:
    """Return a Parquet data set of the Hub; the last four parameters name its columns.

    A mirror of Common Voice: hub(NAME, config="pl", speaker="client_id", clip_id="path").
    Where the data set has only a train split and `speaker` names a column, clips are split by
    speaker; without that column they all stay in train.
    """
    return HubDataset(dataset, config, revision, locale, audio, text, speaker, clip_id)


def own_recordings(
    folder: str | Path, table: str | Path | None = None, locale: str = LANGUAGE
) -> Source:
    """Return your own recordings: a folder, and a CSV with a row for each of its files.

    The CSV has the columns file (relative to the folder), text and, optionally, speaker and split.
    Where it has no splits, clips are split by speaker. `table` is by default the folder's
    metadata.csv.
    """
    folder = Path(folder).expanduser()
    return OwnRecordings(folder, Path(table or folder / "metadata.csv").expanduser(), locale)


def nano() -> Source:
    """Return the small synthetic Polish corpus that comes with the project."""
    return common_voice(NANO_CORPUS, "pl")


# ------------------------------------------------------- Common Voice: a folder, an archive


@dataclass(frozen=True)
class ReleaseFolder:
    """A Common Voice release on disk; `folder` is the one of the locale."""

    folder: Path
    locale: str

    @property
    def name(self) -> str:
        return self.folder.parent.name

    def listing(self) -> Listing:
        tables = {}
        for name in [*RELEASE_SPLITS, UNSPLIT]:
            if (self.folder / name).is_file():
                with (self.folder / name).open("rb") as file:
                    tables[name] = _release_table(_lines(file), self.folder / name)
        clips, drops = _release_clips(tables, str(self.folder))
        return _stamped(clips, self.folder / "clips"), drops

    def read(self, clips: Iterable[Clip]) -> Read:
        for clip in clips:
            yield clip, _read_inside(self.folder / "clips", clip)


@dataclass(frozen=True)
class ReleaseArchive:
    """A Common Voice release as tar.gz, read from front to end as often as needed."""

    path: Path
    locale: str

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")

    def listing(self) -> Listing:
        tables: dict[str, Listing] = {}
        order: dict[str, int] = {}  # file name -> place in the archive
        locales = set()
        for stream, folder, name, content in self._files():
            if name == UNSPLIT:
                locales.add(folder.name)
            if folder.name == self.locale and name in [*RELEASE_SPLITS, UNSPLIT]:
                lines = self._table_lines(stream, content)
                tables[name] = _release_table(lines, self.path / self.locale / name)
            elif folder.parts[-2:] == (self.locale, "clips"):
                order.setdefault(name, len(order))
        if not tables and locales:
            raise _no_locale(self.path, self.locale, locales)
        clips, drops = _release_clips(tables, str(self.path))
        drops += [_not_in_archive(clip) for clip in clips if clip.key not in order]
        clips = [clip for clip in clips if clip.key in order]
        return sorted(clips, key=lambda clip: order[clip.key]), drops

    def read(self, clips: Iterable[Clip]) -> Read:
        wanted = {clip.key: clip for clip in clips}
        for _, folder, name, content in self._files() if wanted else ():
            if folder.parts[-2:] == (self.locale, "clips") and name in wanted:
                clip = wanted.pop(name)
                yield clip, _too_large(clip, content.left) or self._whole(content) or _empty(clip)
                if not wanted:
                    return

    def _files(self) -> Iterator[tuple[Unzipped, PurePosixPath, str, Content]]:
        """Yield the archive's stream, and the folder, name and content of each plain file."""
        with self._undamaged(), self.path.open("rb") as file:
            stream = Unzipped(file)
            for name, content in plain_files(stream):
                path = PurePosixPath(name)
                yield stream, path.parent, path.name, content

    def _table_lines(self, stream: Unzipped, content: Content) -> Iterator[bytes]:
        with self._undamaged():
            for line in _lines(io.BufferedReader(content)):
                stream.spend(CLIP_BYTES)
                yield line

    def _whole(self, content: Content) -> bytes:
        with self._undamaged():
            return content.read(content.left) or b""

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, OSError) as error:
            raise LabError(
                f"{self.path} is damaged or not a whole tar.gz ({error}). Download it again."
            ) from error


def _locale_folder(path: Path, locale: str) -> Path:
    """Return the locale's folder: inside the release at `path`, or `path` itself."""
    for folder in (path / locale, path):
        if any((folder / name).is_file() for name in [*RELEASE_SPLITS, UNSPLIT]):
            if folder == path and path.name != locale:
                break  # another locale's folder
            return folder.resolve()
    raise _no_locale(path, locale, {p.parent.name for p in path.glob(f"*/{UNSPLIT}")})


def _no_locale(path: Path, locale: str, found: set[str]) -> LabError:
    return LabError(
        f"{path} is not a Common Voice release with the locale {locale!r} (locales in it: "
        f"{_listed(sorted(found))}). A release holds {locale}/train.tsv, "
        f"{locale}/validated.tsv and {locale}/clips/."
    )


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, those over MAX_LINE_BYTES in pieces, to limit the memory used."""
    yield from iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _starts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the first piece of each line."""
    ended = True
    for piece in pieces:
        if ended:
            yield piece
        ended = piece.endswith(b"\n")


def _release_table(pieces: Iterable[bytes], path: Path) -> Listing:
    """Read a TSV: tabs divide it, and quotes have no meaning. `path` names it in errors."""
    clips: list[Clip] = []
    drops: list[Drop] = []
    header: list[str] | None = None
    split, taken = RELEASE_SPLITS.get(path.name, ""), 0
    for number, line in enumerate(_starts(pieces), 1):
        # a byte that is not UTF-8 becomes U+FFFD, which is in no alphabet
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
        fields = text.rstrip("\r\n").split("\t")
        taken += len(line) + CLIP_BYTES
        if taken > MAX_TABLE_BYTES:
            raise _too_long(path)
        if header is None:
            header = _checked_header(fields, path)
        elif len(fields) == len(header) and len(line) < MAX_LINE_BYTES:
            clips.append(_release_clip(dict(zip(header, fields, strict=True)), split))
        elif fields != [""]:
            drops.append(_malformed(f"{path.name}:{number}", line, len(fields), len(header)))
    return clips, drops


def _malformed(where: str, line: bytes, fields: int, columns: int) -> Drop:
    detail = f"{fields} fields, the header has {columns}"
    if len(line) >= MAX_LINE_BYTES:
        detail = f"longer than {MAX_LINE_BYTES} bytes"
    return Drop(where, "malformed line", detail)


def _too_long(path: Path) -> LabError:
    return LabError(
        f"{path} takes up more than {MAX_TABLE_BYTES >> 30} GiB of memory, twice as much as the "
        "largest release of Common Voice. Download the release again."
    )


def _checked_header(header: list[str], path: Path) -> list[str]:
    for column in RELEASE_COLUMNS:
        if column not in header:
            raise LabError(
                f"{path} has no column {column!r} (columns: {_listed(header)}), which every "
                "Common Voice release since 11 has. Other data: own_recordings() reads a CSV."
            )
    return header


def _release_clips(tables: dict[str, Listing], where: str) -> Listing:
    """Return the clips and drops of the split tables, or of validated.tsv where those are empty."""
    nothing: Listing = ([], [])
    names = [name for name in RELEASE_SPLITS if tables.get(name, nothing)[0]]
    clips, drops = [], []
    for name in names or [UNSPLIT]:
        listed, malformed = tables.get(name, nothing)
        clips += listed
        drops += malformed
    if not clips:
        raise LabError(
            f"{where} lists no clips: train.tsv, dev.tsv, test.tsv and {UNSPLIT} are empty or "
            "missing. Download the release again."
        )
    return _without_repeats(clips if names else split_by_speaker(clips), drops)


def _release_clip(row: dict[str, str], split: str) -> Clip:
    clip_id = row["path"].removesuffix(".mp3")
    return Clip(clip_id, row["sentence"], split, row["client_id"], row["path"])


def _not_in_archive(clip: Clip) -> Drop:
    outside = ".." in PurePosixPath(clip.key).parts or clip.key.startswith("/")
    return Drop(
        clip.clip_id, "path outside the folder" if outside else "listed but absent", clip.key
    )


# ------------------------------------------------------------------- the Hugging Face Hub


@dataclass(frozen=True)
class HubDataset:
    """A Parquet data set of the Hugging Face Hub, and the names of the columns that are read."""

    dataset: str
    config: str | None
    revision: str | None
    locale: str
    audio: str
    text: str
    speaker: str | None
    clip_id: str | None

    @property
    def name(self) -> str:
        return "/".join(filter(None, [self.dataset, self.config]))

    def listing(self) -> Listing:
        clips = []
        columns = [c for c in (self.text, self.speaker, self.clip_id) if c]
        for split, rows in self._splits().items():
            self._check_columns(rows.column_names)
            for i, row in enumerate(rows.select_columns(columns).to_iterable_dataset()):
                name, speaker = (row[c] if c else None for c in (self.clip_id, self.speaker))
                # the same file name may occur in two splits
                clip_id = f"{split}_{i}" if name is None else f"{split}/{name}"
                speaker = "" if speaker is None else str(speaker)
                clips.append(Clip(clip_id, row[self.text] or "", split, speaker, f"{split}:{i}"))
        if self.speaker and {clip.split for clip in clips} == {"train"}:
            clips = split_by_speaker(clips)
        return _without_repeats(clips, [])

    def read(self, clips: Iterable[Clip]) -> Read:
        splits = {
            split: rows.select_columns([self.audio]).with_format("arrow")  # no decoding
            for split, rows in self._splits().items()
        }
        for clip in clips:
            split, _, row = clip.key.partition(":")
            audio = splits[split][int(row)][self.audio][0].as_py()
            data = audio.get("bytes") if isinstance(audio, dict) else audio
            if data is None or isinstance(data, str):
                absent = "no bytes in the Parquet file"
                yield clip, Drop(clip.clip_id, "listed but absent", absent)
            else:
                yield clip, _too_large(clip, len(data)) or data or _empty(clip)

    def _splits(self) -> dict[str, Any]:
        """Return a datasets.Dataset for each of SPLITS that there is."""
        import datasets

        try:
            found = datasets.load_dataset(self.dataset, self.config, revision=self.revision)
        except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
            raise LabError(
                f"The Hub did not give {self.name} ({_one_line(error)[:300]}). Check the name, the "
                "configuration and the network. Mirrors come and go; fleurs() stays."
            ) from error
        known = {"dev": "validation", "valid": "validation"}
        named = {known.get(split, split): rows for split, rows in found.items()}
        splits = {split: named[split] for split in SPLITS if split in named}
        if not splits:
            raise LabError(
                f"{self.name} has no split named {', '.join(SPLITS)} (its splits: "
                f"{', '.join(found)})."
            )
        return splits

    def _check_columns(self, columns: list[str]) -> None:
        for column in (self.audio, self.text, self.speaker, self.clip_id):
            if column and column not in columns:
                raise LabError(
                    f"{self.name} has no column {column!r} (columns: {', '.join(columns)}). Name "
                    "its columns: hub(NAME, audio=..., text=..., speaker=..., clip_id=...)."
                )


# ------------------------------------------------------------------------ own recordings


@dataclass(frozen=True)
class OwnRecordings:
    """A folder of recordings, and a CSV of their texts and speakers."""

    folder: Path
    table: Path
    locale: str

    @property
    def name(self) -> str:
        return self.folder.name

    def listing(self) -> Listing:
        clips, drops = [], []
        for number, row in self._rows():
            file, text = (row["file"] or "").strip(), row["text"] or ""
            if None in row or not file:  # more fields than the header has, or too few
                drops.append(Drop(f"{self.table.name}:{number}", "malformed line"))
                continue
            split, speaker = ((row.get(name) or "").strip() for name in ("split", "speaker"))
            split = {"dev": "validation"}.get(split, split)
            if split not in ("", *SPLITS):
                raise LabError(
                    f"{self.table}, line {number}: the split is {split!r} but must be one of "
                    f"{', '.join(SPLITS)}."
                )
            clips.append(Clip(file, text, split, speaker, file))
        clips, drops = _without_repeats(self._with_splits(clips), drops)
        return _stamped(clips, self.folder), drops

    def read(self, clips: Iterable[Clip]) -> Read:
        for clip in clips:
            yield clip, _read_inside(self.folder, clip)

    def _with_splits(self, clips: list[Clip]) -> list[Clip]:
        without = [clip for clip in clips if not clip.split]
        if without and len(without) < len(clips):  # a guess here could leak test into train
            raise LabError(
                f"{self.table} gives some clips a split, but not {without[0].clip_id} and "
                f"{len(without) - 1} others. Fill in the column for all clips "
                f"({', '.join(SPLITS)}), or remove it to split them by speaker."
            )
        return split_by_speaker(clips) if without else clips

    def _rows(self) -> list[tuple[int, dict[Any, Any]]]:
        """Return the rows of the CSV, each with the number of its last line.

        A row with too few fields has None for the others; the key None holds fields beyond the
        header.
        """
        example = "file,text,speaker\nania_01.wav,Dzień dobry,ania"
        try:
            text = self.table.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise LabError(f"There is no {self.table}. Make it, e.g.:\n{example}") from None
        except (UnicodeDecodeError, OSError) as error:
            raise LabError(
                f"{self.table} cannot be read as UTF-8 ({error}). Save it as 'CSV UTF-8'."
            ) from error
        # a Polish Excel writes semicolons
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        # newline="": a cell may hold line breaks; strict: a stray quote would swallow rows
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            header = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise LabError(
                f"{self.table}, line {reader.reader.line_num}: {error}. Is a quote not closed? "
                'Quotes inside a cell are written "so ""quoted"" text".'
            ) from error
        missing = [column for column in ("file", "text") if column not in header]
        if missing:
            raise LabError(
                f"{self.table} has no column {missing[0]!r} (columns: {_listed(header)}). It "
                f"should begin like:\n{example}"
            )
        return rows


# ------------------------------------------------------------------- what sources share


def split_by_speaker(clips: list[Clip]) -> list[Clip]:
    """Decide all splits so that no speaker is in two, with about a tenth each in validation and test.

    The speakers with the fewest clips go to test first, so that it has many voices. With one
    speaker everything is train; with two there is no validation.
    """
    counts = Counter(clip.speaker for clip in clips)
    order = sorted(counts, key=lambda s: (counts[s], hashlib.sha256(s.encode()).digest()))
    split = dict.fromkeys(order, "train")
    for name in ("test", "validation"):
        taken = 0
        while len(order) > 1 and taken < HELD_OUT_SHARE * len(clips):
            speaker = order.pop(0)
            split[speaker], taken = name, taken + counts[speaker]
    return [replace(clip, split=split[clip.speaker]) for clip in clips]


def _without_repeats(clips: list[Clip], drops: list[Drop]) -> Listing:
    """Keep each clip once, in test rather than in train, since being in both is a leak."""
    seen: dict[str, Clip] = {}
    drops = list(drops)
    for clip in clips:
        kept = seen.setdefault(clip.clip_id, clip)
        if kept is clip:
            continue
        if SPLITS.index(clip.split) > SPLITS.index(kept.split):
            seen[clip.clip_id], clip = clip, kept  # noqa: PLW2901
        drops.append(Drop(clip.clip_id, "listed twice", f"{clip.split}: {clip.key}"))
    return list(seen.values()), drops


def _stamped(clips: list[Clip], folder: Path) -> list[Clip]:
    """Stamp clips whose files may be replaced between two runs, so that they are read again."""
    return [replace(clip, stamp=_stamp(folder / clip.key)) for clip in clips]


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a name with a zero byte in it
        return "absent"
    return f"{found.st_size} bytes, {found.st_mtime_ns}"


def _read_inside(folder: Path, clip: Clip) -> bytes | Drop:
    """Read the clip's file, but only if it is inside the folder, whatever the table names."""
    try:
        path = (folder / clip.key).resolve()
        if not path.is_relative_to(folder.resolve()):
            return Drop(clip.clip_id, "path outside the folder", clip.key)
        if not path.is_file():  # reading a pipe would block
            return Drop(clip.clip_id, "listed but absent", clip.key)
        return _too_large(clip, path.stat().st_size) or path.read_bytes() or _empty(clip)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        return Drop(clip.clip_id, "listed but absent", f"{clip.key}: {error}")


def _too_large(clip: Clip, size: int) -> Drop | None:
    if size <= MAX_CLIP_BYTES:
        return None
    detail = f"{size >> 20} MiB, the limit is {MAX_CLIP_BYTES >> 20} MiB"
    return Drop(clip.clip_id, "file too large", detail)


def _empty(clip: Clip) -> Drop:
    return Drop(clip.clip_id, "empty file", clip.key)


def _listed(names: Sequence[str]) -> str:
    """Return names from a file for an error message, cut short: a file may hold anything."""
    return ", ".join(names)[:300] or "none"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
