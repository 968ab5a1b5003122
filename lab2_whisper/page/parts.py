"""What the page needs besides Streamlit: its limits, errors as sentences, cues as an editable table."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import pandas as pd

from lab2_whisper.inference import subtitles
from lab2_whisper.inference.subtitles import Cue
from lab2_whisper.page.texts import ERRORS, TEXTS
from lab2_whisper.schema import LabError
from labstore import StoreError

MIN_FREE_BYTES = 2 * 2**30  # bytes of disk that uploads leave to others

UPLOADS = [
    *("wav", "mp3", "m4a", "aac", "ogg", "oga", "opus", "flac", "webm", "mp4", "mkv", "mov"),
    *("3gp", "amr", "wma", "aiff", "caf"),
]

DOWNLOADS = {  # their media types, by format
    **{"vtt": "text/vtt", "srt": "application/x-subrip"},
    **{"txt": "text/plain", "json": "application/json"},
}

TABLE = ["start", "end", "text"]  # what of a cue can be edited

MEDIA_TYPES = {  # of what browsers play; mimetypes depends on the machine
    **{"mp3": "audio/mpeg", "wav": "audio/wav", "m4a": "audio/mp4", "aac": "audio/aac"},
    **{"flac": "audio/flac", "ogg": "audio/ogg", "oga": "audio/ogg", "opus": "audio/ogg"},
    **{"webm": "video/webm", "mkv": "video/x-matroska", "mov": "video/quicktime"},
}

STYLE = """<style>
.stMainBlockContainer { padding-top: 3rem; }
.spoken { background: #1d1d1f; color: white; text-align: center; white-space: pre-line;
          min-height: 4.5em; padding: 0.7em 1em; border-radius: 0.5rem; margin: 0; }
.spoken[hidden] { display: none; }
</style>"""

# Browsers draw subtitles on pictures alone, so a recording without one has them below the player.
# With a place to go to, the player plays from there: Streamlit's own start_time knows whole
# seconds only, and each of them only once.
PLAYER = """<p class="spoken" aria-live="polite" hidden></p><script>{{  // {nonce}
const video = document.querySelector("video.stVideo"), line = document.querySelector(".spoken");
const track = video?.textTracks[0], place = {place};
const show = () => {{
  line.hidden = video.videoWidth > 0;
  video.style.height = line.hidden ? "" : "54px";
  line.textContent = [...track.activeCues ?? []].map(c => c.getCueAsHTML().textContent).join("\\n");
}};
if (track) {{ track.oncuechange = video.onloadedmetadata = show; show(); }}
if (video && place !== null) {{ video.currentTime = place; video.play(); }}
}}</script>"""


@dataclass(frozen=True)
class Settings:
    """Limits of one server, each from the environment variable WHISPER_ and its name."""

    max_minutes: int = 120  # of sound in a recording
    max_mb: int = 200  # of a file
    queue: int = 20  # recordings that may wait; one visitor may have half as many
    away: int = 120  # seconds without a connection until a visitor has left, as Streamlit has it


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The limits that apply. Raises LabError naming a variable that is no positive number."""
    found = {}
    for name in Settings.__dataclass_fields__:
        variable = f"WHISPER_{name.upper()}"
        if text := environment.get(variable):
            if not re.fullmatch(r"0*[1-9]\d{0,6}", text):
                raise LabError(f"{variable} is {text!r}: set it to a whole number above 0.")
            found[name] = int(text)
    return Settings(**found)


class NoSpace(LabError):
    """The server's disk is nearly full."""


def check_space(folder: Path) -> None:
    """Raises NoSpace where no recording should be kept any more."""
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise NoSpace("This server has no space left for recordings. Try again in a few minutes.")


def threads(environment: Mapping[str, str] = os.environ) -> int:
    """How many the model may use: the first of OMP_NUM_THREADS ("4" or "4,2"), 0 for all cores."""
    found = re.match(r"\s*(\d+)", environment.get("OMP_NUM_THREADS", ""))
    return int(found[1]) if found else 0


def sentence(error: BaseException, language: str, limits: Settings) -> str:
    """What a visitor reads of an error, in the language of the page."""
    if not isinstance(error, (LabError, StoreError)):
        return TEXTS[language]["unexpected"]
    names = [getattr(error, "reason", ""), *(kind.__name__ for kind in type(error).__mro__)]
    found = (ERRORS.get(language, {}).get(name) for name in names)
    text = next(filter(None, found), str(error))
    return text.replace("{minutes}", str(limits.max_minutes)).replace("{mb}", str(limits.max_mb))


def clock(seconds: float) -> str:
    """0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def stamp(seconds: float) -> str:
    """A time of a cue to the millisecond: 0:07.250 or 1:02:03.004."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{clock(whole)}.{milliseconds:03}"


def seconds_of(text: object) -> float:
    """The other way: "1:02:03.004", "62:03", "7,25". Raises LabError."""
    found = re.fullmatch(r"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)\s*", str(text), re.ASCII)
    if not found or len(str(text)) > 20:
        said = subtitles.short(str(text))
        raise BadTime(f"“{said}” is no time: write minutes, seconds and thousandths as 1:02.500.")
    hours, minutes, second = found.groups("0")
    return int(hours) * 3600 + int(minutes) * 60 + float(second.replace(",", "."))


class BadTime(LabError):
    """A time in the table that cannot be read."""


class BadCue(LabError):
    """Rows of the table that cannot be subtitles together."""


def table(cues: list[Cue]) -> pd.DataFrame:
    """Cues as rows that people can edit: start, end, text in one line."""
    rows = [(stamp(c.start), stamp(c.end), " ".join(c.text.split())) for c in cues]
    return pd.DataFrame(rows, columns=TABLE, dtype="string")


def with_buttons(rows: pd.DataFrame) -> pd.DataFrame:
    """The same with a button in front of each row, those that people added, too."""
    labels = pd.Series("▶", index=rows.index, dtype="string")
    return rows.drop(columns="play", errors="ignore").assign(play=labels)[["play", *TABLE]]


def cues_of(rows: pd.DataFrame) -> list[Cue]:
    """The cues of an edited table, by time. Raises LabError for what cannot be subtitles."""
    rows = rows[TABLE].fillna("").astype(str)
    filled = rows[(rows != "").any(axis=1)]  # a row just added is empty at first
    cues = [
        Cue(seconds_of(row.start), seconds_of(row.end), row.text.strip())
        for row in filled.itertuples()
    ]
    try:
        return subtitles.checked(cues)
    except LabError as error:
        raise BadCue(str(error)) from None


def start_of(rows: pd.DataFrame, number: int) -> float | None:
    """Where a row of the table begins, in seconds; None where there is no such row or time."""
    try:
        return seconds_of(rows["start"].iloc[number])
    except (BadTime, IndexError):
        return None


def player_script(place: float | None) -> str:
    """What goes with the player, run anew each time: its subtitles, and where to play from."""
    return PLAYER.format(nonce=uuid.uuid4().hex, place=json.dumps(place))


def file_name(name: str, ending: str) -> str:
    """The name of a download: that of the recording, without what file systems dislike."""
    stem = re.sub(r"[^\w\- ]+", "_", PurePath(name).stem).strip("_ ")[:80]
    return f"{stem or 'recording'}.{ending}"


def media_type(name: str) -> str:
    """What a player is told that a file of this name is."""
    return MEDIA_TYPES.get(PurePath(name).suffix.lower().lstrip("."), "video/mp4")
