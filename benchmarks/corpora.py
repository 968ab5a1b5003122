"""Size, time and memory of the Whisper feature stage against the original's recipe.

    python benchmarks/corpora.py [--quick]

Clips are like Common Voice's: MP3, 48 kHz mono, 64 kbit/s, about 5 s, here of espeak-ng with some
noise. The original's recipe is `datasets.map` with 2 processes: decode, 30 s log-mel, token ids,
written as Arrow. Both use this project's decoder, here for want of torchcodec. The two recipes
take turns, three times; the figures are medians. The time to start processes is in them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import datasets
import librosa
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from _report import report

from lab2_whisper import audio
from lab2_whisper.corpora import common_voice
from lab2_whisper.features import build_corpus, open_corpus
from lab2_whisper.nano.make import VOICES, sentence, speak
from lab2_whisper.prepare import Recipe
from lab2_whisper.schema import NANO_TOKENIZER, SAMPLE_RATE
from labstore import open_store

SETTINGS = [(bitrate, level) for bitrate in (16_000, 24_000, 32_000) for level in (0, 5, 10)]
DISTINCT = 200
ROUNDS = 3


def five_seconds(rng: random.Random, voice: str) -> np.ndarray:
    """Sentences and a little noise, 48 kHz mono float32, 4 to 6 s."""
    length = rng.uniform(4, 6)
    parts = [speak(sentence(rng), voice, speed=rng.randrange(130, 180)) for _ in range(5)]
    samples = librosa.resample(np.concatenate(parts), orig_sr=SAMPLE_RATE, target_sr=48_000)
    samples = samples[: round(length * 48_000)] * 0.5
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal(len(samples))
    return (samples + 0.003 * noise).astype(np.float32)


def make_clips(folder: Path) -> list[bytes]:
    rng = random.Random(0)
    voices = [voice for group in VOICES.values() for voice in group]
    clips = []
    for i in range(DISTINCT):
        samples = five_seconds(rng, voices[i % len(voices)])
        clips.append(audio.encode(samples, 48_000, 64_000, container="mp3", codec="libmp3lame"))
        (folder / f"{i}.mp3").write_bytes(clips[-1])
    return clips


def make_release(folder: Path, clips: Path, count: int) -> Path:
    """A release of so many clips, hard links to the distinct ones."""
    home = folder / f"cv-corpus-{count}" / "pl"
    (home / "clips").mkdir(parents=True)
    lines = ["client_id\tpath\tsentence"]
    for i in range(count):
        os.link(clips / f"{i % DISTINCT}.mp3", home / "clips" / f"{i}.mp3")
        lines.append(f"speaker{i % 20}\t{i}.mp3\tGodzina siódma trzydzieści.")
    (home / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home.parent


def original(release: Path, folder: Path, threads: int | None = None) -> tuple[float, float]:
    """Seconds and bytes per clip of the original's map recipe with 2 processes.

    It leaves torch's threads as they come; `threads` = 1 is what an expert would set.
    """
    import torch
    from transformers import WhisperFeatureExtractor, WhisperTokenizer

    extractor = WhisperFeatureExtractor()
    tokenizer = WhisperTokenizer.from_pretrained(NANO_TOKENIZER, language="pl", task="transcribe")

    def prepare(row):
        if threads:
            torch.set_num_threads(threads)
        samples = audio.decode(Path(row["path"]).read_bytes())
        row["input_features"] = extractor(samples, sampling_rate=SAMPLE_RATE).input_features[0]
        row["labels"] = tokenizer(row["sentence"]).input_ids
        return row

    paths = sorted(map(str, (release / "pl" / "clips").glob("*.mp3")))
    rows = {"path": paths, "sentence": ["Godzina siódma trzydzieści."] * len(paths)}
    start = time.perf_counter()
    datasets.Dataset.from_dict(rows).map(
        prepare,
        remove_columns=list(rows),
        num_proc=2,
        cache_file_name=str(folder / "map.arrow"),
        load_from_cache_file=False,
    )
    seconds = time.perf_counter() - start
    files = list(folder.glob("map*.arrow"))
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return seconds / len(paths), size / len(paths)


def ours(release: Path, store, codec: str) -> dict[str, float]:
    """The feature stage on a release: seconds and bytes per clip, and peak memory in MiB."""
    name = f"{codec}_{release.name.rpartition('-')[2]}"
    with Memory() as memory:
        start, cpu = time.perf_counter(), processor_seconds()
        made = build_corpus(store, common_voice(release), name, Recipe(codec), processes=2)
        seconds, cpu = time.perf_counter() - start, processor_seconds() - cpu
    clips, size = made.metadata["clips"], 0
    for shard, version in made.metadata["shards"]:
        size += (store.open_files(shard, version).path / "clips.arrow").stat().st_size
    return {
        "seconds": seconds / clips,
        "cpu": cpu / clips,
        "bytes": size / clips,
        "peak": memory.peak,
    }


def processor_seconds() -> float:
    """Of this process and those it started: unlike wall time, the same on a busy machine."""
    return sum(os.times()[:4])


class Memory:
    """Peak private memory of this process and its children, in MiB, watched five times a second."""

    def __enter__(self):
        self.peak, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(0.2):
            self.peak = max(self.peak, sum(map(private_mib, [os.getpid(), *children()])))


def children() -> list[int]:
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


def private_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def losses(clips: list[bytes]) -> list[dict[str, float]]:
    """For each Opus setting: bytes and milliseconds per clip, and how far log-mel moves, in dB."""
    import torch

    def mel(samples):
        whole = samples[: len(samples) // 160 * 160]
        return audio.log_mel(torch.from_numpy(np.array(whole))[None])[0].numpy()

    decoded = [audio.decode(clip) for clip in clips]
    rows = []
    for bitrate, level in SETTINGS:
        start = time.perf_counter()
        encoded = [audio.encode_opus(samples, bitrate, level) for samples in decoded]
        spent = time.perf_counter() - start
        moved = []
        for before, after in zip(decoded, encoded, strict=True):
            a, b = mel(before), mel(audio.decode(after))
            frames = min(a.shape[1], b.shape[1])
            moved.append(np.abs(a[:, :frames] - b[:, :frames]).mean() * 40)  # (log10 + 4) / 4
        rows.append(
            {
                "bitrate": bitrate,
                "complexity": level,
                "bytes": round(np.mean([len(data) for data in encoded])),
                "ms": round(1000 * spent / len(clips), 1),
                "log_mel_db": round(float(np.mean(moved)), 2),
            }
        )
    return rows


def real_clips(count: int) -> list[bytes]:
    """Spoken digits of real people strung to about 5 s; none where LABS_DATA is not set."""
    files = sorted(Path(os.environ.get("LABS_DATA", "-"), "speech", "digits").glob("*.wav"))
    picked = random.Random(0).sample(files, min(len(files), 10 * count))
    strings = [picked[i : i + 10] for i in range(0, len(picked), 10)]
    wave = lambda files: np.concatenate([audio.decode(f.read_bytes()) for f in files])  # noqa: E731
    return [audio.encode_opus(wave(files), 128_000, 10) for files in strings]


def read_back(corpus: datasets.Dataset, epochs: int = 2) -> dict[str, float]:
    """Clips a second of one worker, and its private memory after each epoch, in MiB."""
    from torch.utils.data import DataLoader
    from transformers import WhisperTokenizer

    from lab2_whisper.dataset import Augment, TrainingClips, collate

    tokenizer = WhisperTokenizer.from_pretrained(NANO_TOKENIZER, language="pl", task="transcribe")
    result = {}
    for name, augment in [("clips_per_second_augmented", Augment()), ("clips_per_second", None)]:
        clips = TrainingClips(corpus, tokenizer, augment)
        loader = DataLoader(clips, 16, collate_fn=collate, num_workers=1, persistent_workers=True)
        memory, start, seen = [], time.perf_counter(), 0
        for epoch in range(epochs if augment is None else 1):
            clips.set_epoch(epoch)
            for i, batch in enumerate(loader):
                seen += len(batch["labels"])
                if augment and i == 40:
                    break
            memory.append(sum(map(private_mib, children())))
        result[name] = round(seen / (time.perf_counter() - start), 1)
    result["read_mib_by_epoch"] = [round(mib) for mib in memory]
    return result


def compare(release: Path, folder: Path, n: int) -> tuple:
    """The original and ours one after the other; other work on the machine hits all alike."""
    store = open_store(folder / f"store{n}")
    return *original(release, folder), ours(release, store, "opus"), ours(release, store, "source")


def median(rounds: list[tuple]) -> tuple:
    """Of each figure over the rounds."""
    seconds, size, *runs = zip(*rounds, strict=True)
    runs = [{key: float(np.median([r[key] for r in run])) for key in run[0]} for run in runs]
    return float(np.median(seconds)), float(np.median(size)), *runs


def main(quick: bool) -> None:
    small, large = (100, 1_000) if quick else (1_000, 10_000)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        clips = make_clips(folder / "clips")
        releases = [make_release(folder, folder / "clips", count) for count in (small, large)]
        store = open_store(folder / "store")
        rounds = [compare(releases[0], folder, n) for n in range(ROUNDS)]
        map_seconds, map_bytes, opus, source = median(rounds)
        one_thread, _ = original(releases[0], folder, threads=1)
        opus_10x, source_10x = (ours(releases[1], store, codec) for codec in ("opus", "source"))
        corpus = open_corpus(store, f"opus_{large}").select(range(large // 2))
        figures = {
            "bytes_ratio": round(map_bytes / opus["bytes"], 1),
            "seconds_ratio": round(map_seconds / opus["seconds"], 2),
            "source_bytes_ratio": round(map_bytes / source["bytes"], 1),
            "source_seconds_ratio": round(map_seconds / source["seconds"], 1),
            "seconds_ratio_one_thread": round(one_thread / opus["seconds"], 2),
            "source_seconds_ratio_one_thread": round(one_thread / source["seconds"], 1),
            "seconds_ratio_10x": round(map_seconds / opus_10x["seconds"], 2),
            "source_seconds_ratio_10x": round(map_seconds / source_10x["seconds"], 1),
            "time_growth_10x": round(10 * opus_10x["cpu"] / opus["cpu"], 2),
            "wall_growth_10x": round(10 * opus_10x["seconds"] / opus["seconds"], 2),
            "memory_growth_10x": round(opus_10x["peak"] / opus["peak"], 3),
            "source_time_growth_10x": round(10 * source_10x["cpu"] / source["cpu"], 2),
            "source_memory_growth_10x": round(source_10x["peak"] / source["peak"], 3),
            "mp3_bytes": round(np.mean([len(clip) for clip in clips])),
            "original": {
                "bytes": round(map_bytes),
                "ms": round(1000 * map_seconds, 1),
                "ms_one_thread": round(1000 * one_thread, 1),
            },
            "clips": [small, large],
        }
        for kind, runs in {"opus": (opus, opus_10x), "source": (source, source_10x)}.items():
            figures[kind] = {
                "bytes": round(runs[0]["bytes"]),
                "ms": [round(1000 * run["seconds"], 1) for run in runs],
                "cpu_ms": [round(1000 * run["cpu"], 1) for run in runs],
                "peak_mib": [round(run["peak"]) for run in runs],
            }
        figures |= read_back(corpus)
        recipe = Recipe()
        figures["default"] = {"bitrate": recipe.bitrate, "complexity": recipe.complexity}
        figures["settings"] = losses(clips[: 20 if quick else 40])
        figures["settings_real_voices"] = losses(real) if (real := real_clips(20)) else None
    report("corpora", figures, table(figures), keep=not quick)


def table(figures: dict) -> str:
    lines = [f"{'':28}{'bytes/clip':>12}{'ms/clip':>10}"]
    lines.append("{:28}{bytes:>12}{ms:>10}".format("original's map", **figures["original"]))
    for kind, name in {"opus": "ours, Opus (default)", "source": "ours, source bytes"}.items():
        lines.append(f"{name:28}{figures[kind]['bytes']:>12}{figures[kind]['ms'][0]:>10}")
    lines.append(f"\n{'Opus bit/s':>12}{'complexity':>12}{'bytes':>8}{'ms':>8}{'log-mel dB':>12}")
    for row in figures["settings"]:
        lines.append("{bitrate:>12}{complexity:>12}{bytes:>8}{ms:>8}{log_mel_db:>12}".format(**row))
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the clips, nothing kept")
    main(parser.parse_args().quick)
