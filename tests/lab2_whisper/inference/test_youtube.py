"""YouTube: from a pasted link to sound within limits, and every failure; connections are recorded.

Of yt-dlp only the network layer is replaced: either `YoutubeDL.urlopen`, by answers in YouTube's own
form (`Answers`), or the system's sockets, which refuse every connection.
"""

import io
import json
import socket
import tempfile
import threading
from unittest.mock import create_autospec
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import yt_dlp
from helpers.speech import tone
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError

from lab2_whisper import audio
from lab2_whisper.inference import youtube
from lab2_whisper.inference.youtube import (
    SENTENCES,
    Video,
    VideoError,
    fetch_audio,
    look_up,
    video_id,
)
from lab2_whisper.schema import LabError

ID = "dQw4w9WgXcQ"
VIDEO = Video(ID, "Wywiad", 2.0)
LIMITS = {"max_seconds": 60, "max_bytes": 10 * 2**20}
VIDEO_HOSTS = ("youtube.com", "googlevideo.com", "googleapis.com")
M4A = audio.encode(tone(2), 44_100, 64_000, container="mp4", codec="aac")


@pytest.fixture(autouse=True)
def asked(monkeypatch) -> list[str]:
    """The hosts that were looked up or connected to. None of them answers: there is no network."""
    hosts = []

    def look_up_host(host, *args, **kwargs):
        hosts.append(str(host))
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def connect(self, address):
        hosts.append(str(address))
        raise OSError(101, "Network is unreachable")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
        monkeypatch.setattr(socket, name, look_up_host)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return hosts


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path):
    """Temporary folders are created in a folder that must be empty afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.iterdir())


CONTEXT = {"client": {"clientName": "WEB", "clientVersion": "2.20261120.00.00", "hl": "en"}}
PAGE = f"""<html><script>ytcfg.set({json.dumps({"INNERTUBE_CONTEXT": CONTEXT})});</script>
<script>var ytInitialData = {{"contents": {{"twoColumnWatchNextResults": {{}}}}}};</script></html>
""".encode()


class Answers:
    """YouTube as yt-dlp sees it: a page, and the player's data for one video."""

    def __init__(self, status="OK", reason=None, sound=M4A, states_size=True, **details):
        self.sound, self.states_size, self.urls, self.read = sound, states_size, [], 0
        self.player = {
            "playabilityStatus": {"status": status, "reason": reason},
            "videoDetails": {"videoId": ID, "title": "Wywiad", "lengthSeconds": "2", **details},
        }
        if status == "OK":
            self.player["streamingData"] = {
                "adaptiveFormats": [
                    {
                        "itag": 140,
                        "url": "https://rr1---sn-a.googlevideo.com/videoplayback?itag=140",
                        "mimeType": 'audio/mp4; codecs="mp4a.40.2"',
                        "bitrate": 130_000,
                        "audioSampleRate": "44100",
                        "approxDurationMs": "2000",
                    }
                ]
            }

    def __call__(self, request: Request | str) -> Response:
        request = Request(request) if isinstance(request, str) else request
        self.urls.append(request.url)
        path = urlsplit(request.url).path
        if path == "/videoplayback":
            return self.stream(request)
        body = json.dumps(self.player).encode() if path.endswith("/player") else PAGE
        return Response(io.BytesIO(body), request.url, {"Content-Length": str(len(body))})

    def stream(self, request: Request) -> Response:
        answers = self

        class Stream(io.BytesIO):
            def read(self, *size):
                block = super().read(*size)
                answers.read += len(block)
                return block

        headers = {"Content-Length": str(len(self.sound))} if self.states_size else {}
        return Response(Stream(self.sound), request.url, headers)


@pytest.fixture
def answer(monkeypatch):
    """answer(...) makes YouTube answer in this way, and returns a record of all requests."""

    def answer(*args, kind=Answers, **kwargs) -> Answers:
        answers = kind(*args, **kwargs)
        monkeypatch.setattr(yt_dlp.YoutubeDL, "urlopen", lambda self, request: answers(request))
        return answers

    return answer


LINKS = [
    f"https://www.youtube.com/watch?v={ID}",
    f"  http://youtube.com/watch?v={ID}&t=42s \n",
    f"https://m.youtube.com/watch?app=desktop&v={ID}#comments",
    f"https://music.youtube.com/watch?v={ID}&list=RDAMVM{ID}",
    f"https://www.youtube.com/watch?v={ID}&list=PLxxxxxxxxxxxxxxxx&index=3",
    f"https://youtu.be/{ID}?si=abcdefgh",
    f"youtu.be/{ID}",
    f"www.youtube.com/watch?v={ID}",
    f"https://www.youtube.com/shorts/{ID}",
    f"https://www.youtube.com/live/{ID}?feature=share",
    f"https://www.youtube.com/embed/{ID}",
    f"https://www.youtube-nocookie.com/embed/{ID}",
    f"HTTPS://WWW.YouTube.com/watch?v={ID}",
    ID,
]


@pytest.mark.parametrize("pasted", LINKS)
def test_the_id_is_found_in_every_form_of_link(pasted, asked):
    assert video_id(pasted) == ID
    assert asked == []


PLAYLISTS = [
    "https://www.youtube.com/playlist?list=PLxxxxxxxxxxxxxxxxxxxx",
    "https://www.youtube.com/watch?list=PLxxxxxxxxxxxxxxxxxxxx",
]
REFUSED = [
    "",
    "file:///etc/passwd",
    f"file://www.youtube.com/watch?v={ID}",
    "/etc/passwd",
    "http://127.0.0.1",
    f"http://127.0.0.1/watch?v={ID}",
    f"http://[::1]/watch?v={ID}",
    f"http://127.0.0.1/shorts/{ID}",
    f"https://evil.example/embed/{ID}",
    f"https://consent.youtube.com/embed/{ID}",
    f"ftp://www.youtube.com/shorts/{ID}",
    f"http://[/watch?v={ID}",
    "https://consent.youtube.com/m?continue=http://127.0.0.1/",
    f"https://consent.youtube.com/m?continue=http://127.0.0.1/&v={ID}",
    "https://www.youtube.com/redirect?q=http://127.0.0.1/",
    f"https://www.youtube.com@127.0.0.1/watch?v={ID}",
    f"https://127.0.0.1\\@www.youtube.com/watch?v={ID}",
    f"https://www.youtube.com.evil.example/watch?v={ID}",
    f"https://evil.example/https://www.youtube.com/watch?v={ID}",
    "https://www.youtube.com/watch?v=../../../etc",
    "https://www.youtube.com/watch?v=" + ID + "x",
    "https://www.youtube.com/watch?v=" + ID + "%0a--exec",
    f"https://www.youtube.com/watch?v={ID}\n--exec=touch",
    "https://www.youtube.com/@channel",
    "https://www.youtube.com/",
    "https://youtu.be/",
    "--exec=touch /tmp/a",
    "--exec=abcd",
    "ytsearch:wywiad",
    "http://user:pass@169.254.169.254/latest/meta-data",
    "ｄQw4w9WgXcQ",  # noqa: RUF001 a letter of full width
    "https://www.youtube.com/watch?v=" + "a" * 10_000,
]


@pytest.mark.parametrize("pasted", REFUSED)
def test_text_that_is_not_a_video_link_is_refused_without_a_connection(pasted, asked):
    with pytest.raises(LabError, match=r"not a link to a YouTube video.*or upload a recording"):
        look_up(video_id(pasted))
    assert asked == []


@pytest.mark.parametrize("pasted", PLAYLISTS)
def test_a_playlist_has_its_own_message(pasted, asked):
    with pytest.raises(LabError, match=r"is to a playlist.*Open the video"):
        look_up(video_id(pasted))
    assert asked == []


FOREIGN = [
    *PLAYLISTS,
    "file:///etc/passwd",
    "http://127.0.0.1",
    "https://consent.youtube.com/m?continue=http://127.0.0.1/",
    "https://www.youtube.com/redirect?q=http://127.0.0.1/",
    f"https://127.0.0.1/watch?v={ID}",
    "ytsearch:wywiad",
    "--exec=touch",
]


@pytest.mark.parametrize("address", FOREIGN)
def test_yt_dlp_itself_refuses_such_addresses_too(address, asked):
    """The second line of defence, should a bug in video_id let one through."""
    with pytest.raises(VideoError), youtube._client() as client:
        client.extract_info(address, download=True)
    assert asked == []


def is_video_host(host: str) -> bool:
    return any(host == known or host.endswith("." + known) for known in VIDEO_HOSTS)


def test_a_video_is_looked_up_and_its_sound_fetched(answer):
    answers, progress = answer(), []
    assert look_up(ID) == VIDEO
    assert not [url for url in answers.urls if "videoplayback" in url]
    with fetch_audio(VIDEO, **LIMITS, on_progress=lambda *p: progress.append(p)) as path:
        assert path.name == "audio.m4a"
        samples = audio.decode(path.read_bytes())
    assert not path.parent.exists()
    assert len(samples) / 16_000 == pytest.approx(len(tone(2)) / 44_100, abs=0.1)
    assert np.abs(samples).max() > 0.1
    assert progress[-1] == (len(M4A), len(M4A))
    assert all(is_video_host(urlsplit(url).hostname) for url in answers.urls)
    assert parse_qs(urlsplit(answers.urls[0]).query)["v"] == [ID]


FAILURES = {
    "private": [
        ("LOGIN_REQUIRED", "Private video"),
        (
            "LOGIN_REQUIRED",
            "This is a private video. Please sign in to verify that you may see it.",
        ),
        ("UNPLAYABLE", "Join this channel to get access to members-only content like this video"),
    ],
    "age": [
        ("LOGIN_REQUIRED", "Sign in to confirm your age"),
    ],
    "refused": [
        ("LOGIN_REQUIRED", "Sign in to confirm you\u2019re not a bot"),
        ("UNPLAYABLE", "This content isn't available, try again later."),
    ],
    "gone": [
        ("ERROR", "Video unavailable"),
        ("ERROR", "This video has been removed by the uploader"),
        ("UNPLAYABLE", "This live stream recording is not available."),
    ],
    "live": [
        ("LIVE_STREAM_OFFLINE", "This live event will begin in 3 days."),
        ("LIVE_STREAM_OFFLINE", "Premieres in 2 hours"),
    ],
    "other": [
        ("UNPLAYABLE", "Something new. See https://example.com/help for more"),
    ],
}
CASES = [(reason, *case) for reason, cases in FAILURES.items() for case in cases]


@pytest.mark.parametrize(("reason", "status", "words"), CASES)
@pytest.mark.parametrize("stage", ["look up", "fetch"])
def test_each_refusal_by_youtube_has_its_own_message(answer, stage, reason, status, words):
    answers = answer(status, words)
    assert failure(stage).reason == reason
    assert not [url for url in answers.urls if "videoplayback" in url]


def failure(stage: str, **limits) -> VideoError:
    with pytest.raises(VideoError, match=r"^[A-Z].*[.)]$") as caught:
        if stage == "look up":
            look_up(ID)
        else:
            with fetch_audio(VIDEO, **(LIMITS | limits)):
                pytest.fail("there is sound")
    return caught.value


def test_visitors_of_a_refused_server_are_asked_to_upload(answer):
    answer("LOGIN_REQUIRED", "Sign in to confirm you\u2019re not a bot")
    sentence = str(failure("look up"))
    assert "refuses this server" in sentence
    assert "Upload the recording instead" in sentence
    assert "cookies" not in sentence


def test_the_message_for_any_other_failure_quotes_youtube_without_advice_or_addresses(answer):
    answer("UNPLAYABLE", "Something new. See https://example.com/help for more")
    assert str(failure("look up")) == (
        "YouTube did not provide this video (Something new). Upload the recording instead."
    )


@pytest.mark.parametrize("stage", ["look up", "fetch"])
def test_a_running_live_stream_is_refused(answer, stage):
    answer(isLive=True, isLiveContent=True)
    assert failure(stage).reason == "live"


@pytest.mark.parametrize("stage", ["look up", "fetch"])
def test_without_a_network_only_youtube_was_contacted(stage, asked):
    error = failure(stage)
    assert error.reason == "no network"
    assert "Try again later" in str(error)
    assert asked
    assert all(is_video_host(host) for host in asked)


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "refused"), (403, "refused"), (500, "no network")]
)
@pytest.mark.parametrize("path", ["/player", "/videoplayback"])
def test_http_status_codes_of_refusal_are_recognised(answer, path, status, reason):
    class Refusing(Answers):
        def __call__(self, request):
            response = super().__call__(request)
            if urlsplit(response.url).path.endswith(path):
                response.status = status
                raise HTTPError(response)
            return response

    answer(kind=Refusing)
    assert failure("fetch").reason == reason


def test_a_connection_that_breaks_midway_leaves_no_file(answer):
    class Breaking(Answers):
        def stream(self, request):
            response = super().stream(request)
            whole = response.fp.read

            def read(*size):
                if self.read > 5000:
                    raise TransportError("connection reset")
                return whole(*size)

            response.fp.read = read
            return response

    answer(kind=Breaking, sound=bytes(100_000))
    assert failure("fetch").reason == "no network"


def test_a_video_over_the_time_limit_is_not_fetched(answer):
    answers = answer(lengthSeconds="7260")
    error = failure("fetch", max_seconds=3600)
    assert error.reason == "too long"
    assert "The video is 121 minutes long; the limit is 60." in str(error)
    assert not [url for url in answers.urls if "videoplayback" in url]


@pytest.mark.parametrize("states_size", [True, False])
def test_a_download_over_the_size_limit_is_abandoned_midway(answer, states_size):
    answers = answer(sound=bytes(40 * 2**20), states_size=states_size)
    error = failure("fetch", max_bytes=2**20)
    assert error.reason == "too large"
    assert "larger than the limit of 1 MiB" in str(error)
    assert answers.read < 20 * 2**20


def test_stop_ends_the_download_at_its_next_block(answer):
    answers, stop = answer(sound=bytes(40 * 2**20)), threading.Event()
    with (
        pytest.raises(VideoError) as caught,
        fetch_audio(VIDEO, 60, 2**30, lambda *_: stop.set(), stop),
    ):
        pytest.fail("there is sound")
    assert caught.value.reason == "stopped"
    assert answers.read < 2**20


def test_a_download_that_takes_too_long_is_abandoned_midway(answer, monkeypatch):
    answers = answer(sound=bytes(40 * 2**20))

    def late(*_):
        monkeypatch.setattr(youtube, "MAX_DOWNLOAD_SECONDS", -1)

    with pytest.raises(VideoError) as caught, fetch_audio(VIDEO, 60, 2**30, late):
        pytest.fail("there is sound")
    assert caught.value.reason == "too slow"
    assert answers.read < 2**20


def test_a_visitor_who_leaves_midway_leaves_no_file(answer):
    answer()
    with pytest.raises(GeneratorExit), fetch_audio(VIDEO, **LIMITS) as path:
        assert path.exists()
        raise GeneratorExit
    assert not path.exists()


def test_a_download_that_ends_without_a_file_is_an_error(answer, monkeypatch):
    """An autospec of yt-dlp, which returns like this where one of its filters rejects a video."""
    answer()
    silent = create_autospec(yt_dlp.YoutubeDL.process_ie_result, return_value={"id": ID})
    monkeypatch.setattr(yt_dlp.YoutubeDL, "process_ie_result", silent)
    assert failure("fetch").reason == "no sound"
    assert silent.called


def test_a_video_without_sound_has_its_own_message(answer):
    (only,) = answer().player["streamingData"]["adaptiveFormats"]
    only |= {"itag": 136, "mimeType": 'video/mp4; codecs="avc1.640028"', "width": 64, "height": 64}
    assert look_up(ID) == VIDEO
    assert failure("fetch").reason == "no sound"


@pytest.mark.parametrize("length", [None, "0"])
def test_a_video_without_a_length_is_refused(answer, length):
    answer(lengthSeconds=length)
    assert "length is unknown" in str(failure("look up"))


def test_metadata_of_another_video_is_refused(answer):
    """An autospec of extract_info, as YouTube itself does not do this."""
    other = {"id": "xxxxxxxxxxx", "title": "?", "duration": 3}
    with pytest.MonkeyPatch.context() as patch:
        spec = create_autospec(yt_dlp.YoutubeDL.extract_info, return_value=other)
        patch.setattr(yt_dlp.YoutubeDL, "extract_info", spec)
        assert failure("look up").reason == "gone"


def test_every_reason_has_a_complete_sentence():
    values = {"minutes": 2, "limit": 1, "detail": "x"}
    for reason in SENTENCES:
        sentence = str(VideoError(reason, **values))
        assert sentence[0].isupper()
        assert sentence.endswith((".", ")"))
        assert "{" not in sentence
