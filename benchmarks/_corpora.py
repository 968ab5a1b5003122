"""The work of benchmarks/corpora.py, which says what is measured."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from pathlib import Path

import datasets
import librosa
import numpy as np
from _report import report

from lab2_whisper import audio
from lab2_whisper.features.clips import Recipe
from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import common_voice
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.nano.make import VOICES, sentence, synthesize
from lab2_whisper.schema import NANO_TOKENIZER, SAMPLE_RATE
from labstore import open_store

SETTINGS = [(bitrate, level) for bitrate in (16_000, 24_000, 32_000) for level in (0, 5, 10)]


def five_seconds(rng: random.Random, voice: str) -> np.ndarray:
    """Sentences and a little noise, 48 kHz mono float32, 4 to 6 s."""
    length = rng.uniform(4, 6)
    parts = [synthesize(sentence(rng), voice, speed=rng.randrange(130, 180)) for _ in range(5)]
    samples = librosa.resample(np.concatenate(parts), orig_sr=SAMPLE_RATE, target_sr=48_000)
    samples = samples[: round(length * 48_000)] * 0.5
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal(len(samples))
    return (samples + 0.003 * noise).astype(np.float32)


def make_clips(folder: Path, distinct: int) -> list[bytes]:
    rng = random.Random(0)
    voices = [voice for group in VOICES.values() for voice in group]
    clips = []
    for i in range(distinct):
        samples = five_seconds(rng, voices[i % len(voices)])
        clips.append(audio.encode(samples, 48_000, 64_000, container="mp3", codec="libmp3lame"))
        (folder / f"{i}.mp3").write_bytes(clips[-1])
    return clips


def make_release(folder: Path, clips: Path, count: int, distinct: int) -> Path:
    """A release of so many clips, hard links to the distinct ones."""
    home = folder / f"cv-corpus-{count}" / "pl"
    (home / "clips").mkdir(parents=True)
    lines = ["client_id\tpath\tsentence"]
    for i in range(count):
        os.link(clips / f"{i % distinct}.mp3", home / "clips" / f"{i}.mp3")
        lines.append(f"speaker{i % 20}\t{i}.mp3\tGodzina siódma trzydzieści.")
    (home / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home.parent


def original(release: Path, folder: Path, threads: int | None = None) -> dict[str, float]:
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
    return {"seconds": seconds / len(paths), "bytes": size / len(paths)}


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
    """Spoken digits of real people, telephone band (8 kHz), strung to about 5 s.

    None where LABS_DATA is not set.
    """
    files = sorted(Path(os.environ.get("LABS_DATA", "-"), "speech", "digits").glob("*.wav"))
    picked = random.Random(0).sample(files, min(len(files), 10 * count))
    strings = [picked[i : i + 10] for i in range(0, len(picked), 10)]
    wave = lambda files: np.concatenate([audio.decode(f.read_bytes()) for f in files])  # noqa: E731
    return [audio.encode_opus(wave(files), 128_000, 10) for files in strings]


def read_back(corpus: datasets.Dataset, epochs: int = 2) -> dict[str, float]:
    """Clips a second of one worker, and its private memory after each epoch, in MiB."""
    from torch.utils.data import DataLoader
    from transformers import WhisperTokenizer

    from lab2_whisper.training.dataset import Augment, TrainingClips, collate

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


def compare(releases: dict[str, Path], folder: Path, n: int) -> dict[str, dict[str, float]]:
    """All recipes one after the other; other work on the machine hits all alike."""
    store = open_store(folder / f"store{n}")
    return {
        "as_it_comes": original(releases["quarter"], folder),
        "one_thread": original(releases["small"], folder, threads=1),
        "one_thread_tenth": original(releases["tenth"], folder, threads=1),
        "opus": ours(releases["small"], store, "opus"),
        "opus_tenth": ours(releases["tenth"], store, "opus"),
        "source": ours(releases["small"], store, "source"),
        "source_tenth": ours(releases["tenth"], store, "source"),
    }


def medians(rounds: list[dict]) -> dict[str, dict[str, float]]:
    """Of each figure of each recipe over the rounds."""
    return {
        recipe: {key: float(np.median([r[recipe][key] for r in rounds])) for key in figures}
        for recipe, figures in rounds[0].items()
    }


def described(runs: dict, recipe: str, small: int) -> dict[str, float]:
    """Size and time of a recipe; two sizes of release tell start-up from what a clip costs."""
    whole, tenth = (
        runs[recipe]["seconds"] * small,
        runs[f"{recipe}_tenth"]["seconds"] * small / 10,
    )
    marginal = (whole - tenth) / (small - small / 10)
    return {
        "bytes": round(runs[recipe]["bytes"]),
        "ms": round(1000 * runs[recipe]["seconds"], 1),
        "startup_s": round(whole - small * marginal, 2),
        "marginal_ms": round(1000 * marginal, 2),
    }


def growth(name: str, small: dict, large: dict) -> dict[str, float]:
    """What ten times the clips cost: processor time, wall time, peak memory."""
    return {
        f"{name}time_growth_10x": round(10 * large["cpu"] / small["cpu"], 2),
        f"{name}wall_growth_10x": round(10 * large["seconds"] / small["seconds"], 2),
        f"{name}memory_growth_10x": round(large["peak"] / small["peak"], 3),
    }


def ratios(runs: dict, recipes: dict) -> dict[str, float]:
    """How many times smaller and faster ours is than the original's recipe."""
    figures, original = {}, runs["one_thread"]
    for name, codec in (("", "opus"), ("source_", "source")):
        seconds = runs[codec]["seconds"]
        further = recipes["one_thread"]["marginal_ms"] / recipes[codec]["marginal_ms"]
        figures |= {
            f"{name}bytes_ratio": round(original["bytes"] / runs[codec]["bytes"], 1),
            f"{name}seconds_ratio": round(runs["as_it_comes"]["seconds"] / seconds, 2),
            f"{name}seconds_ratio_one_thread": round(original["seconds"] / seconds, 2),
            f"{name}seconds_ratio_one_thread_marginal": round(further, 2),
        }
    return figures


def main(quick: bool) -> None:
    small, distinct, rounds = (100, 20, 1) if quick else (1_000, 200, 3)
    large = 10 * small
    sizes = {"tenth": small // 10, "quarter": small // 4, "small": small, "large": large}
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        clips = make_clips(folder / "clips", distinct)
        releases = {
            size: make_release(folder, folder / "clips", count, distinct)
            for size, count in sizes.items()
        }
        store = open_store(folder / "store")
        runs = medians([compare(releases, folder, n) for n in range(rounds)])
        many = {codec: ours(releases["large"], store, codec) for codec in ("opus", "source")}
        corpus = open_corpus(store, f"opus_{large}").select(range(large // 2))
        figures = measured(runs, many, small) | read_back(corpus)
    figures["clips"], figures["distinct_clips"] = [small, large], distinct
    figures["mp3_bytes"] = round(np.mean([len(clip) for clip in clips]))
    recipe = Recipe()
    figures["default"] = {"bitrate": recipe.bitrate, "complexity": recipe.complexity}
    figures["settings"] = losses(clips[: 20 if quick else 40])
    figures["settings_real_voices"] = losses(real) if (real := real_clips(20)) else None
    report("corpora", figures, table(figures), keep=not quick)


def measured(runs: dict, many: dict, small: int) -> dict:
    """Figures of the runs on `small` clips, their medians, and of those on ten times as many."""
    recipes = {recipe: described(runs, recipe, small) for recipe in ("one_thread", *many)}
    figures = ratios(runs, recipes)
    for name, codec in (("", "opus"), ("source_", "source")):
        figures |= growth(name, runs[codec], many[codec])
        recipes[codec] |= {
            "ms_10x": round(1000 * many[codec]["seconds"], 1),
            "cpu_ms": [round(1000 * run[codec]["cpu"], 1) for run in (runs, many)],
            "peak_mib": [round(run[codec]["peak"]) for run in (runs, many)],
        }
    as_it_comes = {"ms_as_it_comes": round(1000 * runs["as_it_comes"]["seconds"], 1)}
    original = recipes.pop("one_thread") | as_it_comes
    return figures | {"original": original} | recipes


def table(figures: dict) -> str:
    lines = [f"{'':28}{'bytes/clip':>12}{'ms/clip':>10}{'start-up s':>12}{'marginal ms':>13}"]
    names = {
        "original": "original's map, one thread",
        "opus": "ours, Opus (default)",
        "source": "ours, source bytes",
    }
    row = "{:28}{bytes:>12}{ms:>10}{startup_s:>12}{marginal_ms:>13}"
    lines += [row.format(name, **figures[kind]) for kind, name in names.items()]
    as_it_comes = figures["original"]["ms_as_it_comes"]
    lines.insert(2, f"{'original as it comes':28}{'':>12}{as_it_comes:>10}")
    lines.append(f"\n{'Opus bit/s':>12}{'complexity':>12}{'bytes':>8}{'ms':>8}{'log-mel dB':>12}")
    for row in figures["settings"]:
        lines.append("{bitrate:>12}{complexity:>12}{bytes:>8}{ms:>8}{log_mel_db:>12}".format(**row))
    return "\n".join(lines)
