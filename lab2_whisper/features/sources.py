"""Where speech comes from: each source is one line in a notebook.

    common_voice("cv-corpus-26.0-2026-06-12.tar.gz")     a release: the archive, or unpacked
    data_collective("common-voice-scripted-...-polish-...")   the same, fetched with MDC_API_KEY
    fleurs(), hub("owner/name", ...)                     Parquet on the Hugging Face Hub
    own_recordings("folder")                             your own, with a CSV

A source lists its clips (text, split, speaker) at once and reads their sound one by one, so a
corpus of any size passes through little memory, and an archive is never unpacked to disk.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from lab2_whisper.schema import LANGUAGE, NANO_CORPUS, SPLITS, LabError
from labstore import secret

RELEASE_SPLITS = {"train.tsv": "train", "dev.tsv": "validation", "test.tsv": "test"}
UNSPLIT = "validated.tsv"  # read where a release has no splits
RELEASE_COLUMNS = ("client_id", "path", "sentence")  # in every release since 11
MAX_BYTES = 32 << 20  # of one clip; 30 s of 48 kHz stereo WAV are 6 MB
MAX_LINE = 1 << 20  # bytes of a table's line, many times the longest sentence


@dataclass(frozen=True)
class Clip:
    """What a source says of a clip, and `key`, by which the source finds its sound.

    `stamp` tells size and time of a file that may be changed between two runs, or "absent".
    """

    clip_id: str
    text: str
    split: str  # one of SPLITS, "" before it is decided
    speaker: str
    key: str
    stamp: str = ""


@dataclass(frozen=True)
class Drop:
    """A clip that is left out, and why: `reason` is one of schema.DROPPED."""

    clip_id: str
    reason: str
    detail: str = ""


class Source(Protocol):
    """Where speech comes from: what clips there are, and their sound."""

    name: str
    locale: str

    def listing(self) -> tuple[list[Clip], list[Drop]]:
        """All clips in the order in which `read` gives them, and what cannot be one."""

    def read(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, bytes | Drop]]:
        """The sound of some clips of the listing, in its order: the bytes of an audio file."""


# ------------------------------------------------------------------ the lines of a notebook


def common_voice(path: str | Path, locale: str = LANGUAGE) -> Source:
    """A Common Voice release from 11 on: its tar.gz, or the folder it unpacks to."""
    path = Path(path).expanduser()
    if path.is_file():
        return ReleaseArchive(path, locale)
    if path.is_dir():
        return ReleaseFolder(_locale_folder(path, locale), locale)
    raise LabError(
        f"There is no Common Voice release at {path}. Give the tar.gz or the folder it unpacks to, "
        "or fetch it with data_collective(SLUG)."
    )


def data_collective(slug: str, locale: str = LANGUAGE, folder: str | Path | None = None) -> Source:
    """A Common Voice release from the Mozilla Data Collective, downloaded once to `folder`.

    Needs the environment variable MDC_API_KEY, and the data set's terms accepted on its page.
    `folder` is by default the client's own (MDC_DOWNLOAD_PATH).
    """
    import datacollective  # it reads a .env file, too

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
        ) from None
    except FileNotFoundError:
        raise LabError(
            f"The Data Collective has no data set {slug!r}. The slug is the last part of the "
            "address of its page on https://mozilladatacollective.com/datasets."
        ) from None
    except (datacollective.errors.DownloadError, RuntimeError, OSError, ValueError) as error:
        raise LabError(
            f"{slug!r} could not be downloaded ({' '.join(str(error).split())}). Run this again: "
            "the download goes on where it stopped."
        ) from None
    return ReleaseArchive(Path(archive), locale)


def fleurs(locale: str = LANGUAGE, config: str | None = None) -> Source:
    """Google's FLEURS, read sentences; `config` where it is not e.g. "pl_pl", as in "en_us"."""
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
    """A Parquet data set of the Hub; the last four parameters name its columns.

    A mirror of Common Voice: hub(NAME, config="pl", speaker="client_id", clip_id="path").
    Where there is only a train split, splits are made by speaker if `speaker` names a column;
    without one all clips stay train.
    """
    return HubDataset(dataset, config, revision, locale, audio, text, speaker, clip_id)


def own_recordings(
    folder: str | Path, table: str | Path | None = None, locale: str = LANGUAGE
) -> Source:
    """A folder of recordings and a CSV with the columns file, text and, if known, speaker, split.

    `file` is relative to the folder; `table` is by default the folder's metadata.csv.
    Splits are made by speaker where the CSV has none.
    """
    folder = Path(folder).expanduser()
    return OwnRecordings(folder, Path(table or folder / "metadata.csv").expanduser(), locale)


def nano() -> Source:
    """The small synthetic Polish corpus that comes with the project."""
    return common_voice(NANO_CORPUS, "pl")


# ------------------------------------------------------------------------------ the sources


@dataclass(frozen=True)
class ReleaseFolder:
    """A Common Voice release on disk; `folder` is that of one locale."""

    folder: Path
    locale: str

    @property
    def name(self) -> str:
        return self.folder.parent.name

    def listing(self) -> tuple[list[Clip], list[Drop]]:
        tables = {}
        for name in [*RELEASE_SPLITS, UNSPLIT]:
            if (self.folder / name).is_file():
                with (self.folder / name).open("rb") as file:
                    tables[name] = _release_table(_lines(file), str(self.folder / name))
        clips, drops = _release_clips(tables, str(self.folder))
        return _stamped(clips, self.folder / "clips"), drops

    def read(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, bytes | Drop]]:
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

    def listing(self) -> tuple[list[Clip], list[Drop]]:
        tables, order, locales = {}, {}, set()
        for member, file in self._files():
            where, name = PurePosixPath(member.name).parent, PurePosixPath(member.name).name
            if name == UNSPLIT:
                locales.add(where.name)
            if where.name == self.locale and name in [*RELEASE_SPLITS, UNSPLIT]:
                tables[name] = _release_table(file, f"{self.path}: {member.name}")
            elif where.parts[-2:] == (self.locale, "clips"):
                order.setdefault(name, len(order))
        if not tables and locales:
            raise _no_locale(self.path, self.locale, locales)
        clips, drops = _release_clips(tables, str(self.path))
        drops += [_not_in_archive(clip) for clip in clips if clip.key not in order]
        clips = [clip for clip in clips if clip.key in order]
        return sorted(clips, key=lambda clip: order[clip.key]), drops

    def read(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, bytes | Drop]]:
        wanted = {clip.key: clip for clip in clips}
        for member, file in self._files() if wanted else ():
            path = PurePosixPath(member.name)
            if path.parent.parts[-2:] == (self.locale, "clips") and path.name in wanted:
                clip = wanted.pop(path.name)
                yield clip, _too_large(clip, member.size) or b"".join(file) or _empty(clip)
                if not wanted:
                    return

    def _files(self) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
        """Plain files with their lines. Nothing is written to disk, whatever their names are."""
        with self._undamaged(), tarfile.open(self.path, "r|*") as tar:
            while member := tar.next():
                tar.members.clear()  # it would remember all that it has seen
                if member.isfile():
                    yield member, self._lines(tar.extractfile(member))

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        with self._undamaged():
            yield from _lines(file)

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
            # ValueError: extended headers that hold no number where one must be
            raise LabError(
                f"{self.path} is damaged or not a whole tar.gz ({error}). Download it again."
            ) from None


@dataclass(frozen=True)
class HubDataset:
    """A Parquet data set of the Hugging Face Hub, and which of its columns hold what."""

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

    def listing(self) -> tuple[list[Clip], list[Drop]]:
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

    def read(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, bytes | Drop]]:
        splits = {
            split: rows.select_columns([self.audio]).with_format("arrow")  # no decoding
            for split, rows in self._splits().items()
        }
        for clip in clips:
            split, _, row = clip.key.partition(":")
            audio = splits[split][int(row)][self.audio][0].as_py()
            data = audio.get("bytes") if isinstance(audio, dict) else audio
            absent = Drop(clip.clip_id, "listed but absent", "no bytes in the Parquet file")
            if data is None or isinstance(data, str):
                yield clip, absent
            else:
                yield clip, _too_large(clip, len(data)) or data or _empty(clip)

    def _splits(self) -> dict[str, Any]:
        import datasets

        try:
            found = datasets.load_dataset(self.dataset, self.config, revision=self.revision)
        except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
            raise LabError(
                f"The Hub did not give {self.name} ({' '.join(str(error).split())[:300]}). Check "
                "name, configuration and network; mirrors come and go, fleurs() is steady."
            ) from None
        known = {"dev": "validation", "valid": "validation"}
        named = {known.get(split, split): rows for split, rows in found.items()}
        splits = {split: named[split] for split in SPLITS if split in named}
        if not splits:
            raise LabError(
                f"{self.name} has the splits {', '.join(found)}, none of {', '.join(SPLITS)}."
            )
        return splits

    def _check_columns(self, there: list[str]) -> None:
        for column in (self.audio, self.text, self.speaker, self.clip_id):
            if column and column not in there:
                raise LabError(
                    f"{self.name} has no column {column!r} (columns: {', '.join(there)}). Say "
                    "which holds what: hub(NAME, audio=..., text=..., speaker=..., clip_id=...)."
                )


@dataclass(frozen=True)
class OwnRecordings:
    """A folder of recordings, and a table of what is said in them by whom."""

    folder: Path
    table: Path
    locale: str

    @property
    def name(self) -> str:
        return self.folder.name

    def listing(self) -> tuple[list[Clip], list[Drop]]:
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
                    f"{self.table}, line {number}: split {split!r} is none of {', '.join(SPLITS)}."
                )
            clips.append(Clip(file, text, split, speaker, file))
        clips, drops = _without_repeats(self._with_splits(clips), drops)
        return _stamped(clips, self.folder), drops

    def read(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, bytes | Drop]]:
        for clip in clips:
            yield clip, _read_inside(self.folder, clip)

    def _with_splits(self, clips: list[Clip]) -> list[Clip]:
        without = [clip for clip in clips if not clip.split]
        if without and len(without) < len(clips):  # a guess here could leak test into train
            raise LabError(
                f"{self.table} gives some clips a split, but {without[0].clip_id} and "
                f"{len(without) - 1} others none. Fill in the column for all clips "
                f"({', '.join(SPLITS)}), or leave it out and it is made by speaker."
            )
        return split_by_speaker(clips) if without else clips

    def _rows(self) -> list[tuple[int, dict[str, str]]]:
        """The rows of the CSV, each with the number of its last line."""
        example = "file,text,speaker\nania_01.wav,Dzień dobry,ania"
        try:
            text = self.table.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise LabError(f"There is no {self.table}. Make it, e.g.:\n{example}") from None
        except (UnicodeDecodeError, OSError) as error:
            raise LabError(
                f"{self.table} cannot be read as UTF-8 ({error}). Save it as 'CSV UTF-8'."
            ) from None
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)  # a Polish Excel writes semicolons
        # newline="": a cell may hold line breaks; strict: a stray quote would swallow rows
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            header = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise LabError(
                f"{self.table}, line {reader.reader.line_num}: {error}. Is a quote not closed? A cell "
                'with quotes in it is written "so ""quoted"" text".'
            ) from None
        missing = [column for column in ("file", "text") if column not in header]
        if missing:
            raise LabError(
                f"{self.table} has no column {missing[0]!r} (columns: {_listed(header)}). It "
                f"should begin like:\n{example}"
            )
        return rows


# -------------------------------------------------------------------------------- the parts


def split_by_speaker(clips: list[Clip], share: float = 0.1) -> list[Clip]:
    """Decide all splits so that no speaker is in two: about `share` each to validation and test.

    The speakers with the fewest clips go to test first, so that it hears many voices. With one
    speaker all is train; with two there is no validation.
    """
    counts = Counter(clip.speaker for clip in clips)
    order = sorted(counts, key=lambda s: (counts[s], hashlib.sha256(s.encode()).digest()))
    split = dict.fromkeys(order, "train")
    for name in ("test", "validation"):
        taken = 0
        while len(order) > 1 and taken < share * len(clips):
            speaker = order.pop(0)
            split[speaker], taken = name, taken + counts[speaker]
    return [replace(clip, split=split[clip.speaker]) for clip in clips]


def _locale_folder(path: Path, locale: str) -> Path:
    """The locale's folder: below a release, or the one given."""
    for folder in (path / locale, path):
        if any((folder / name).is_file() for name in [*RELEASE_SPLITS, UNSPLIT]):
            if folder == path and path.name != locale:
                break  # another locale's folder
            return folder.resolve()
    raise _no_locale(path, locale, {p.parent.name for p in path.glob(f"*/{UNSPLIT}")})


def _no_locale(path: Path, locale: str, there: set[str]) -> LabError:
    return LabError(
        f"{path} is no Common Voice release with the locale {locale!r} (locales in it: "
        f"{', '.join(sorted(there)) or 'none'}). A release holds {locale}/train.tsv, "
        f"{locale}/validated.tsv and {locale}/clips/."
    )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; one longer than MAX_LINE comes in pieces, so that it fills no memory."""
    yield from iter(lambda: file.readline(MAX_LINE), b"")


def _starts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The first piece of each line."""
    ended = True
    for piece in pieces:
        if ended:
            yield piece
        ended = piece.endswith(b"\n")


def _release_table(pieces: Iterable[bytes], where: str) -> tuple[list[dict[str, str]], list[Drop]]:
    """The rows of a TSV, and its malformed lines. Quotes mean nothing in it, tabs everything."""
    rows, drops, header = [], [], None
    for number, line in enumerate(_starts(pieces), 1):
        # a byte that is not UTF-8 becomes U+FFFD, which no alphabet holds
        fields = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
        fields = fields.rstrip("\r\n").split("\t")
        if header is None:
            header = _checked_header(fields, where)
        elif len(fields) == len(header) and len(line) < MAX_LINE:
            rows.append(dict(zip(header, fields, strict=True)))
        elif fields != [""]:
            detail = f"{len(fields)} fields, the header has {len(header)}"
            if len(line) >= MAX_LINE:
                detail = f"longer than {MAX_LINE} bytes"
            drops.append(Drop(f"{PurePosixPath(where).name}:{number}", "malformed line", detail))
    return rows, drops


def _checked_header(header: list[str], where: str) -> list[str]:
    for column in RELEASE_COLUMNS:
        if column not in header:
            raise LabError(
                f"{where} has no column {column!r} (columns: {_listed(header)}), which every "
                "Common Voice release since 11 has. Other data: own_recordings() reads a CSV."
            )
    return header


def _listed(header: list[str]) -> str:
    """A header for an error: no more of it than one can read, whatever the file is."""
    return ", ".join(header)[:300] or "none"


def _release_clips(tables: dict, where: str) -> tuple[list[Clip], list[Drop]]:
    """Clips and drops of the split tables, or of validated.tsv where those have no rows."""
    names = [name for name in RELEASE_SPLITS if tables.get(name, ([],))[0]]
    clips, drops = [], []
    for name in names or [UNSPLIT]:
        rows, malformed = tables.get(name, ([], []))
        drops += malformed
        clips += [_release_clip(row, RELEASE_SPLITS.get(name, "")) for row in rows]
    if not clips:
        raise LabError(
            f"{where} lists no clips: train.tsv, dev.tsv, test.tsv and {UNSPLIT} are empty or "
            "missing. Download the release again."
        )
    return _without_repeats(clips if names else split_by_speaker(clips), drops)


def _release_clip(row: dict[str, str], split: str) -> Clip:
    clip_id = row["path"].removesuffix(".mp3")
    return Clip(clip_id, row["sentence"], split, row["client_id"], row["path"])


def _without_repeats(clips: list[Clip], drops: list[Drop]) -> tuple[list[Clip], list[Drop]]:
    """Each clip once, in test rather than in train: in both it would be a leak."""
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
    """Clips that a person may mend between two runs, so that a mended one is not taken for old."""
    return [replace(clip, stamp=_stamp(folder / clip.key)) for clip in clips]


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a name with a zero byte in it
        return "absent"
    return f"{found.st_size} bytes, {found.st_mtime_ns}"


def _read_inside(folder: Path, clip: Clip) -> bytes | Drop:
    """The bytes of a file that must lie inside a folder, whatever the table says."""
    try:
        path = (folder / clip.key).resolve()
        if not path.is_relative_to(folder.resolve()):
            return Drop(clip.clip_id, "path outside the folder", clip.key)
        if not path.is_file():  # a pipe would be waited for
            return Drop(clip.clip_id, "listed but absent", clip.key)
        return _too_large(clip, path.stat().st_size) or path.read_bytes() or _empty(clip)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        return Drop(clip.clip_id, "listed but absent", f"{clip.key}: {error}")


def _not_in_archive(clip: Clip) -> Drop:
    outside = ".." in PurePosixPath(clip.key).parts or clip.key.startswith("/")
    reason = "path outside the folder" if outside else "listed but absent"
    return Drop(clip.clip_id, reason, clip.key)


def _too_large(clip: Clip, size: int) -> Drop | None:
    if size <= MAX_BYTES:
        return None
    return Drop(clip.clip_id, "file too large", f"{size >> 20} MiB, at most {MAX_BYTES >> 20}")


def _empty(clip: Clip) -> Drop:
    return Drop(clip.clip_id, "empty file", clip.key)
