"""The page's limits, its error messages, its table of cues and the script of its player."""

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
from lab2_whisper.inference.media import clock
from lab2_whisper.inference.subtitles import Cue
from lab2_whisper.page.texts import ERRORS, TEXTS
from lab2_whisper.schema import LabError
from labstore import StoreError

MIN_FREE_BYTES = 2 * 2**30  # uploads leave this much of the disk free
MAX_STEM_CHARS = 80  # of a download's name

UPLOADS = [  # file extensions
    *("wav", "mp3", "m4a", "aac", "ogg", "oga", "opus", "flac", "webm", "mp4", "mkv", "mov"),
    *("3gp", "amr", "wma", "aiff", "caf"),
]

DOWNLOADS = {  # format -> media type
    **{"vtt": "text/vtt", "srt": "application/x-subrip"},
    **{"txt": "text/plain", "json": "application/json"},
}

TABLE = ["start", "end", "text"]  # the columns that can be edited

MEDIA_TYPES = {  # extension -> media type, as the module mimetypes differs between machines
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

# Browsers draw subtitles over a picture only, so a recording without one shows them below the
# player. `place` is where to play from, in seconds: the start_time of st.video in Streamlit 1.67.0
# takes whole seconds only, and has no effect when the same value is set again.
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
    """The limits of one server, each set by the environment variable WHISPER_<NAME>."""

    max_minutes: int = 120  # of sound in one recording
    max_mb: int = 200  # of one file
    queue: int = 20  # recordings that may wait; one visitor may have half as many
    away: int = 120  # seconds without a connection after which a visitor has left, as in Streamlit


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the limits. Raises LabError for a variable that is not a positive whole number."""
    found = {}
    for name in Settings.__dataclass_fields__:
        variable = f"WHISPER_{name.upper()}"
        if text := environment.get(variable):
            if not re.fullmatch(r"0*[1-9]\d{0,6}", text):
                raise LabError(
                    f"{variable} is {text!r}; it must be a whole number from 1 to 9999999."
                )
            found[name] = int(text)
    return Settings(**found)


class NoSpace(LabError):
    """The server's disk is nearly full."""


def check_space(folder: Path) -> None:
    """Raise NoSpace if the disk is too full for another recording."""
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise NoSpace("This server has no space left for recordings. Try again in a few minutes.")


def threads(environment: Mapping[str, str] = os.environ) -> int:
    """Return the model's number of threads: the first in OMP_NUM_THREADS, or 0 for all cores.

    The variable may be a list such as "4,2", one number for each level of nesting.
    """
    found = re.match(r"\s*(\d+)", environment.get("OMP_NUM_THREADS", ""))
    return int(found[1]) if found else 0


def sentence(error: BaseException, language: str, limits: Settings) -> str:
    """Return an error's message for a visitor, in the language of the page."""
    if not isinstance(error, (LabError, StoreError)):
        return TEXTS[language]["unexpected"]
    names = [getattr(error, "reason", ""), *(kind.__name__ for kind in type(error).__mro__)]
    found = (ERRORS.get(language, {}).get(name) for name in names)
    text = next(filter(None, found), str(error))
    return text.replace("{minutes}", str(limits.max_minutes)).replace("{mb}", str(limits.max_mb))


def stamp(seconds: float) -> str:
    """Return a cue's time to the millisecond: 0:07.250 or 1:02:03.004."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{clock(whole)}.{milliseconds:03}"


def seconds_of(text: object) -> float:
    """Return the seconds of a written time: "1:02:03.004", "62:03", "7,25". Raises BadTime."""
    found = re.fullmatch(r"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)\s*", str(text), re.ASCII)
    if not found or len(str(text)) > 20:
        quoted = subtitles.short(str(text))
        raise BadTime(f"“{quoted}” is not a time. Write it as 1:02.500, in minutes and seconds.")
    hours, minutes, second = found.groups("0")
    return int(hours) * 3600 + int(minutes) * 60 + float(second.replace(",", "."))


class BadTime(LabError):
    """A time in the table that cannot be read."""


class BadCue(LabError):
    """Rows of the table that make no valid subtitles."""


def table(cues: list[Cue]) -> pd.DataFrame:
    """Return cues as rows to edit: start, end, and the text on one line."""
    rows = [(stamp(c.start), stamp(c.end), " ".join(c.text.split())) for c in cues]
    return pd.DataFrame(rows, columns=TABLE, dtype="string")


def with_buttons(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a play button in front of each, including rows that were added."""
    labels = pd.Series("▶", index=rows.index, dtype="string")
    return rows.drop(columns="play", errors="ignore").assign(play=labels)[["play", *TABLE]]


def cues_of(rows: pd.DataFrame) -> list[Cue]:
    """Return the cues of an edited table, ordered by time. Raises BadTime or BadCue."""
    rows = rows[TABLE].fillna("").astype(str)
    filled = rows[(rows != "").any(axis=1)]  # a row just added is empty at first
    cues = [
        Cue(seconds_of(row.start), seconds_of(row.end), row.text.strip())
        for row in filled.itertuples()
    ]
    try:
        return subtitles.checked(cues)
    except LabError as error:
        raise BadCue(str(error)) from error


def start_of(rows: pd.DataFrame, number: int) -> float | None:
    """Return where a row of the table starts, in seconds; None without such a row or time."""
    try:
        return seconds_of(rows["start"].iloc[number])
    except (BadTime, IndexError):
        return None


def player_script(place: float | None) -> str:
    """Return the HTML below the player: its subtitles, and a script that plays from `place`.

    `place` is in seconds; None leaves the player where it is. A random number in the script makes
    the browser run it each time.
    """
    return PLAYER.format(nonce=uuid.uuid4().hex, place=json.dumps(place))


def file_name(name: str, ending: str) -> str:
    """Return a download's name: the recording's, without what file systems do not allow."""
    stem = re.sub(r"[^\w\- ]+", "_", PurePath(name).stem).strip("_ ")[:MAX_STEM_CHARS]
    return f"{stem or 'recording'}.{ending}"


def media_type(name: str) -> str:
    """Return the media type for a file of this name, video/mp4 if the extension is unknown."""
    return MEDIA_TYPES.get(PurePath(name).suffix.lower().lstrip("."), "video/mp4")
