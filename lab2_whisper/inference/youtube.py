"""Fetch the sound of a YouTube video: from a pasted link to an id, its metadata, and its audio.

    video = look_up(video_id("https://youtu.be/dQw4w9WgXcQ"))
    with fetch_audio(video, max_seconds=3600, max_bytes=200 * 2**20) as path:
        ...                                  # the file is deleted after this block

This is best effort: YouTube refuses many servers, and then the recording has to be uploaded. The
pasted text is never fetched. Only the id in it is used, in an address built here, and yt-dlp may
use no extractor but the one for YouTube's videos. No cookies, no ffmpeg, no cache.
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
MAX_LINK_CHARS = 1000
MAX_DOWNLOAD_SECONDS = 600  # other visitors wait meanwhile

UPLOAD = "Upload the recording instead."
SENTENCES = {  # reason -> the message
    "no link": "This is not a link to a YouTube video. Paste one such as "
    "https://www.youtube.com/watch?v=… or https://youtu.be/…, or upload a recording.",
    "playlist": "This link is to a playlist, but videos are transcribed one at a time. Open the "
    "video and paste its own link.",
    "live": "This live stream has not ended. Paste the link once it is over, or upload a recording.",
    "private": "This video is private or for members only. Ask its owner for the recording, and "
    "upload it.",
    "age": f"YouTube shows this video only to people who sign in and confirm their age. {UPLOAD}",
    "gone": "This video does not exist, or is not available in this server's country. Check the "
    "link, or upload a recording.",
    "too long": "The video is {minutes:.0f} minutes long; the limit is {limit:.0f}. Upload a part "
    "of it.",
    "too large": "The sound of the video is larger than the limit of {limit:.0f} MiB. Upload a part "
    "of it.",
    "no network": "YouTube cannot be reached from this server. Try again later, or upload the "
    "recording.",
    "refused": "YouTube refuses this server, as it does most servers in data centres. "
    f"{UPLOAD} (A copy of this page on your own computer will probably not be blocked.)",
    "too slow": "The download from YouTube takes too long. Try again later, or upload the "
    "recording.",
    "no sound": f"YouTube offers this server no sound for this video. {UPLOAD}",
    "stopped": "The download was stopped.",
    "other": f"YouTube did not provide this video ({{detail}}). {UPLOAD}",
}

# Reason -> what yt-dlp's messages contain, in lower case; the first match counts. Seen with yt-dlp
# 2026.8.19, whose exceptions do not tell these cases apart.
SIGNS: dict[str, tuple[str, ...]] = {
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
WARNING_SIGNS: dict[str, tuple[str, ...]] = {
    "refused": ("http error 403", "http error 429"),
    "no network": ("transporterror", "http error 5"),
}


class VideoError(LabError):
    """A video whose sound cannot be had; `reason` is a key of SENTENCES."""

    def __init__(self, reason: str, **values: Any) -> None:
        super().__init__(SENTENCES[reason].format(**values))
        self.reason = reason


@dataclass(frozen=True)
class Video:
    """A video that can be fetched; `seconds` is its length."""

    id: str
    title: str
    seconds: float


def video_id(pasted: str) -> str:
    """Return a video's id of 11 characters, from a link to the video or from the id itself.

    Raises VideoError with the reason "no link" or "playlist".
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
    """Split a YouTube link into host, path segments and query; None for anything else."""
    if (
        len(pasted) > MAX_LINK_CHARS
        or not pasted.isascii()
        or re.search(r"[\s\\\x00-\x1f]", pasted)
    ):
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
    """Return a video's title and length, by its id, without fetching any sound.

    Raises VideoError, with any reason except those of size, speed and stop.
    """
    with _client() as client:
        info = _metadata(client, video)
    return Video(video, info.get("title") or video, float(info["duration"]))


@contextmanager
def fetch_audio(
    video: Video,
    max_seconds: float,
    max_bytes: int,
    on_progress: Callable[[int, int | None], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Path]:
    """Fetch the sound of a video into a file (m4a, else webm) that exists inside the block only.

    `on_progress` is called with the bytes fetched and the bytes in all, None while unknown. Raises
    VideoError, with the reason "stopped" once `stop` is set. No file is left behind in any case.
    """
    stop, started = stop or threading.Event(), time.monotonic()

    def watch(state: dict[str, Any]) -> None:
        done, total = state.get("downloaded_bytes") or 0, state.get("total_bytes")
        if stop.is_set():
            raise VideoError("stopped")
        if time.monotonic() - started > MAX_DOWNLOAD_SECONDS:
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
        # yt-dlp 2026.8.19 can return without an error and without a file, as when a filter rejects
        files = [path for path in Path(folder).glob("audio.*") if path.stat().st_size]
        if len(files) != 1 or files[0].suffix == ".part":
            raise VideoError("no sound")
        yield files[0]


@contextmanager
def _client(**more: Any) -> Iterator[Any]:
    """Open yt-dlp, restricted to YouTube's videos, and turn its errors into VideoError."""
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
        raise _explained(error, notes.warnings) from error


class _Notes:
    """A logger for yt-dlp that prints nothing and keeps warnings.

    The cause of a failed request may stand in a warning only.
    """

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
    """Classify an error of yt-dlp: by the failed request if there is one, else by its words."""
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
    """Yield an error and its causes, where yt-dlp keeps them: `cause`, `exc_info`, __cause__."""
    while error is not None:
        yield error
        kept = getattr(error, "exc_info", None) or (None, None)
        error = getattr(error, "cause", None) or kept[1] or error.__cause__


def _detail(message: str) -> str:
    """Shorten yt-dlp's message to its first sentence, without advice and addresses."""
    message = re.sub(rf"^(ERROR: )?(\[\S+\] )?({ID}: )?", "", message.strip())
    message = re.split(r"[;\n]|\. |https?://", message)[0]
    return message.strip(" .:")[:120] or "no reason given"
