"""The sound of a YouTube video: a pasted link to an id, what is known of it, then its audio.

    video = look_up(video_id("https://youtu.be/dQw4w9WgXcQ"))
    with fetch_audio(video, max_seconds=3600, max_bytes=200 * 2**20) as path:
        ...                                  # the file is gone after this block

Best effort: YouTube refuses many servers, and then a recording has to be uploaded. What was pasted
is never fetched: of it only the id is used, in an address made here, by yt-dlp's extractor for
YouTube alone. No cookies, no ffmpeg, nothing cached.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab2_whisper.schema import LabError

ID = r"[0-9A-Za-z_-]{11}"
HOSTS = ("youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com")
SHORT_HOSTS = ("youtu.be", "www.youtu.be")
EMBED_HOSTS = ("youtube-nocookie.com", "www.youtube-nocookie.com")
LONGEST_LINK = 1000  # characters
LONGEST_DOWNLOAD = 600  # seconds: others wait meanwhile

UPLOAD = "Upload the recording instead."
SENTENCES = {  # reason -> what a person is told
    "no link": "This is no link to a YouTube video. Paste one such as "
    "https://www.youtube.com/watch?v=… or https://youtu.be/…, or upload a recording.",
    "playlist": "This link is a playlist, and one video is transcribed at a time. Open the video "
    "and paste its own link.",
    "live": f"This is a live stream that has not ended. Paste the link once it is over. {UPLOAD}",
    "private": "This video is private or for members only. Ask its owner for the recording, and "
    "upload it.",
    "age": f"YouTube shows this video only to people who sign in and give their age. {UPLOAD}",
    "gone": "YouTube has no such video, or none for this server's country. Check the link, or "
    "upload a recording.",
    "too long": "The video has {minutes:.0f} minutes, and the limit here is {limit:.0f}. Upload "
    "a part of it.",
    "too large": "The sound of the video is over {limit:.0f} MiB, the limit here. Upload a part "
    "of it.",
    "no network": "YouTube does not answer: there is no network here, or trouble there. Try again "
    f"later. {UPLOAD}",
    "refused": "YouTube refuses this server, as it does many that are no one's home computer. "
    f"{UPLOAD} (A copy of this page on your own computer will probably be let in.)",
    "too slow": "YouTube takes too long to hand over this video's sound. Try again later, or upload "
    "the recording.",
    "no sound": f"YouTube gives this server no sound of this video. {UPLOAD}",
    "stopped": "The download was stopped.",
    "other": f"YouTube did not give this video ({{detail}}). {UPLOAD}",
}

# What yt-dlp's messages hold, in lower case -> reason; the first that fits.
SIGNS = {
    "no sound": ("requested format", "no video formats"),
    "private": ("private video", "video is private", "members-only", "join this channel"),
    "age": ("your age", "age-restricted", "inappropriate for some"),
    "refused": ("not a bot", "captcha", "try again later", "sign in", "login required"),
    "gone": (
        "unavailable",
        "not available",
        "removed",
        "not exist",
        "terminated",
        "in your country",
    ),
    "live": ("live event", "premieres in", "live stream"),
    "no network": ("got error", "timed out", "connection reset"),
}
WARNING_SIGNS = {
    "refused": ("http error 403", "http error 429"),
    "no network": ("transporterror", "http error 5"),
}

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come and the bytes in all, None where nobody knows."""


class VideoError(LabError):
    """Why there is no sound of a video; `reason` is a key of SENTENCES."""

    def __init__(self, reason: str, **values: Any) -> None:
        super().__init__(SENTENCES[reason].format(**values))
        self.reason = reason


@dataclass(frozen=True)
class Video:
    """A video that is there to be heard; `seconds` is its length."""

    id: str
    title: str
    seconds: float


def video_id(pasted: str) -> str:
    """The 11 characters that name a video, from a link to it or from themselves.

    Raises VideoError ("no link", "playlist").
    """
    pasted = pasted.strip()
    if re.fullmatch(ID, pasted):
        return pasted
    parts = _parts(pasted)
    if parts is None:
        raise VideoError("no link")
    host, path, query = parts
    found = query.get("v", [""])[0] if path == ["watch"] else path[-1]
    if (host in SHORT_HOSTS and len(path) == 1) or _names_video(host, path):
        match = re.fullmatch(ID, found)
        if match:
            return match[0]
    raise VideoError("playlist" if host in HOSTS and "list" in query else "no link")


def _parts(pasted: str) -> tuple[str, list[str], dict[str, list[str]]] | None:
    """Host, steps of the path and query of an http link of YouTube's; None for anything else."""
    if len(pasted) > LONGEST_LINK or not pasted.isascii() or re.search(r"[\s\\\x00-\x1f]", pasted):
        return None
    try:
        link = urlsplit(pasted if "://" in pasted else f"https://{pasted}")
        host = (link.hostname or "").rstrip(".")
    except ValueError:
        return None
    if link.scheme not in ("http", "https") or host not in HOSTS + SHORT_HOSTS + EMBED_HOSTS:
        return None
    return host, link.path.strip("/").split("/"), parse_qs(link.query)


def _names_video(host: str, path: list[str]) -> bool:
    if host in HOSTS and path == ["watch"]:
        return True
    steps = ("embed",) if host in EMBED_HOSTS else ("shorts", "live", "embed", "v")
    return host not in SHORT_HOSTS and len(path) == 2 and path[0] in steps


def look_up(video: str) -> Video:
    """What YouTube says of a video, by its id, without a byte of its sound.

    Raises VideoError, with every reason but those of the sizes.
    """
    with _client() as client:
        info = _metadata(client, video)
    return Video(video, info.get("title") or video, float(info["duration"]))


@contextmanager
def fetch_audio(
    video: Video,
    max_seconds: float,
    max_bytes: int,
    on_progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Path]:
    """The sound of a video as a file (m4a, else webm) that is there for the block alone.

    Raises VideoError; once `stop` is set, that of the reason "stopped". In every case nothing is
    left behind.
    """
    stop, begun = stop or threading.Event(), time.monotonic()

    def watch(state: dict[str, Any]) -> None:
        done, total = state.get("downloaded_bytes") or 0, state.get("total_bytes")
        if stop.is_set():
            raise VideoError("stopped")
        if time.monotonic() - begun > LONGEST_DOWNLOAD:
            raise VideoError("too slow")
        if max(done, total or 0) > max_bytes:
            raise VideoError("too large", limit=max_bytes / 2**20)
        if on_progress:
            on_progress(done, total)

    with tempfile.TemporaryDirectory(prefix="video-", ignore_cleanup_errors=True) as folder:
        with _client(paths={"home": folder}, progress_hooks=[watch]) as client:
            watch({})
            info = _metadata(client, video.id)
            if info["duration"] > max_seconds:
                raise VideoError("too long", minutes=info["duration"] / 60, limit=max_seconds / 60)
            watch({})
            client.process_ie_result(info, download=True)
        # yt-dlp also returns without an error and without a file
        files = [path for path in Path(folder).glob("audio.*") if path.stat().st_size]
        if len(files) != 1 or files[0].suffix == ".part":
            raise VideoError("no sound")
        yield files[0]


@contextmanager
def _client(**more: Any) -> Iterator[Any]:
    """yt-dlp, allowed nothing but YouTube's videos, whose errors become VideoError."""
    import yt_dlp

    notes = _Notes()
    settings = {
        "allowed_extractors": ["youtube"],  # not its playlists, searches or any other site
        "noplaylist": True,
        "format": "bestaudio[ext=m4a]/bestaudio",
        "outtmpl": {"default": "audio.%(ext)s"},
        "fixup": "never",  # would need ffmpeg
        "cachedir": False,
        "socket_timeout": 10,  # seconds
        "retries": 2,
        "fragment_retries": 2,
        "extractor_retries": 1,
        "skip_unavailable_fragments": False,
        "quiet": True,
        "noprogress": True,
        "logger": notes,
        "color": "never",
    }
    try:
        with yt_dlp.YoutubeDL(settings | more) as client:
            yield client
    except (yt_dlp.utils.YoutubeDLError, OSError) as error:
        raise _explained(error, notes.warnings) from None


class _Notes:
    """A logger for yt-dlp that prints nothing; why a request failed may be in a warning alone."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None: ...

    error = debug

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def _metadata(client: Any, video: str) -> dict[str, Any]:
    address = f"https://www.youtube.com/watch?v={video}"
    info = client.extract_info(address, download=False, process=False)
    if info.get("id") != video or info.get("_type", "video") != "video":
        raise VideoError("gone")
    if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        raise VideoError("live")
    if not info.get("duration"):
        raise VideoError("other", detail="its length is unknown")
    return info


def _explained(error: Exception, warnings: list[str]) -> VideoError:
    """From the failed request where there is one, else from the words of YouTube's refusal."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError

    for cause in _causes(error):
        if isinstance(cause, HTTPError) and cause.status in (403, 429):
            return VideoError("refused")
        if isinstance(cause, TransportError | HTTPError):
            return VideoError("no network")
    reason = _first_sign(SIGNS, str(error)) or _first_sign(WARNING_SIGNS, " ".join(warnings))
    return VideoError(reason) if reason else VideoError("other", detail=_detail(str(error)))


def _first_sign(signs: dict[str, tuple[str, ...]], message: str) -> str | None:
    message = message.lower()
    return next((r for r, known in signs.items() if any(sign in message for sign in known)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, the way yt-dlp keeps them."""
    while error is not None:
        yield error
        kept = getattr(error, "exc_info", None) or (None, None)
        error = getattr(error, "cause", None) or kept[1] or error.__cause__


def _detail(message: str) -> str:
    """The first sentence or so of yt-dlp's message, without its own advice and addresses."""
    message = re.sub(rf"^(ERROR: )?(\[\S+\] )?({ID}: )?", "", message.strip())
    message = re.split(r"[;\n]|\. |https?://", message)[0]
    return message.strip(" .:")[:120] or "no reason given"
