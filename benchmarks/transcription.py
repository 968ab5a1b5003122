"""Measure transcription: speed against the transformers pipeline, start-up, memory for an hour.

    python benchmarks/transcription.py [--minutes 2] [--hour 60] [--rounds 2] [--quick]

Speed: both sides run a Whisper of whisper-small's shape with random weights, decoded greedily. Its
position embeddings are set so that every text ends after the same number of tokens: 5 tokens per
second of sound, about as many as Polish has. Both sides use the same CPU threads and transcribe the
same windows, which are full of speech by espeak-ng. The pipeline (float32) gets the windows that our
code cuts, without the overlap of 5 s on each side that its own chunks of 30 s would add. Our code
(CTranslate2, int8) starts from the file, so its time includes decoding and voice activity. Neither
computes word times. The pipeline is measured with batches of 1 and of 4, and the faster one counts.

    speedup                      windows of up to 30 s of a recording without a pause
    short_context_speedup        clips of about 5 s, each its own file, as in Common Voice
    short_context_long_speedup   the recording again, cut into windows of at most 10 s

The sides take turns; the figures are medians over the rounds. In fresh processes:

    cold_start_s                 from the start of Python to the text of a clip, whisper-small's shape
    first_text_s, peak_gib       an hour of speech, the nano model, from the start of Python
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from _report import report

from lab2_whisper.audio import encode_opus
from lab2_whisper.inference.transcribe import (
    SHORT_PAUSE_SECONDS,
    SHORT_WINDOW_SECONDS,
    load,
    transcribe,
)
from lab2_whisper.inference.vad import speech_windows
from lab2_whisper.nano.make import VOICES, sentence, synthesize
from lab2_whisper.schema import NANO_MODEL, NANO_TOKENIZER, SAMPLE_RATE

TOKENS_PER_SECOND = 5
CLIP_SECONDS = 5
BATCHES = (1, 4)
END_TOKEN, PROMPT_TOKENS = 50_257, 4  # <|endoftext|>; the number of tokens before the text
FIRST_UNUSED, AFTER_UNUSED = 274, 50_256  # nano's unused tokens, which are easy to count in a text
SMALL = {"d_model": 768, "layers": 12, "heads": 12}
TINY = {"d_model": 64, "layers": 2, "heads": 2}

Measure = Callable[[], tuple[float, int]]
"""Transcribes once; returns seconds, and the number of tokens in the texts."""

FRESH = """
import json, sys, time
from lab2_whisper.inference.transcribe import load, transcribe
started, file, folder = float(sys.argv[1]), sys.argv[2], sys.argv[3]
model = load(folder, device="cpu")
loaded, first, done, memory = time.time() - started, None, 0.0, []
def mib(name):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name)) / 2**10
def progress(seconds, total):
    global done
    if seconds >= done:
        memory.append(round(mib("VmRSS"))); done = seconds + 300
for segment in transcribe(file, model, on_progress=progress):
    first = first or time.time() - started
print(json.dumps({"load_s": loaded, "first_text_s": first, "all_s": time.time() - started,
                  "peak_gib": mib("VmHWM") / 2**10, "mib_every_5_minutes": memory}))
"""


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Return sentences in many voices without a pause between them, 16 kHz mono float32."""
    rng, parts, count = random.Random(seed), [], 0
    voices = [voice for group in VOICES.values() for voice in group]
    while count < seconds * SAMPLE_RATE:
        samples = synthesize(sentence(rng), rng.choice(voices), speed=rng.randrange(140, 190))
        parts.append(_trimmed(samples))
        count += len(parts[-1])
    return np.concatenate(parts)[: round(seconds * SAMPLE_RATE)]


def _trimmed(samples: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1]


def random_whisper(folder: Path, shape: dict[str, int], tokens: int, short: bool) -> Path:
    """Publish a Whisper with random weights whose texts all have the same number of tokens."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    from lab2_whisper.training.publish import convert

    torch.manual_seed(0)
    d, layers, heads = shape["d_model"], shape["layers"], shape["heads"]
    config = WhisperConfig(
        vocab_size=51_865, d_model=d, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * d,
        decoder_ffn_dim=4 * d, pad_token_id=END_TOKEN, bos_token_id=END_TOKEN, eos_token_id=END_TOKEN,
        decoder_start_token_id=END_TOKEN + 1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():  # from the last token on, every position leads to the end
        end = model.proj_out.weight[END_TOKEN].normal_(std=config.init_std)  # was 0, as padding
        last = PROMPT_TOKENS + tokens - 1
        model.model.decoder.embed_positions.weight[last:] += 1000 * end / end.norm()
    never = [*range(FIRST_UNUSED), AFTER_UNUSED, *range(END_TOKEN + 1, 51_865)]
    model.generation_config = GenerationConfig(
        bos_token_id=END_TOKEN, eos_token_id=END_TOKEN, pad_token_id=END_TOKEN,
        decoder_start_token_id=END_TOKEN + 1,
        no_timestamps_token_id=50_363, lang_to_id={"<|pl|>": 50_269}, is_multilingual=True,
        task_to_id={"transcribe": 50_359}, language="pl", task="transcribe", max_length=448,
        suppress_tokens=never,
    )  # fmt: skip
    tokenizer = WhisperTokenizer.from_pretrained(NANO_TOKENIZER, language="pl", task="transcribe")
    for part in (model, tokenizer, WhisperFeatureExtractor()):
        part.save_pretrained(folder)
    convert(folder, short)
    return folder


def published_nano(folder: Path) -> Path:
    from lab2_whisper.training.publish import convert

    shutil.copytree(NANO_MODEL, folder)
    convert(folder, short_audio_context=True)
    return folder


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV")
    return file.getvalue()


def ours(folder: Path, files: list[bytes], threads: int) -> Measure:
    """Return a measurement of our code: seconds, and the number of tokens transcribed."""
    model = load(folder, device="cpu", threads=threads)

    def measure() -> tuple[float, int]:
        start = time.perf_counter()
        texts = [segment.text for file in files for segment in transcribe(file, model)]
        return time.perf_counter() - start, count_tokens(texts)

    return measure


def pipeline(folder: Path, windows: list[np.ndarray], threads: int) -> dict[str, Measure]:
    """Return a measurement of the transformers pipeline for each batch size."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    recogniser: Any = transformers.pipeline(
        "automatic-speech-recognition", str(folder), dtype=torch.float32, device="cpu"
    )
    recogniser.tokenizer.pad_token_id = END_TOKEN  # without one the pipeline makes no batches
    settings = {"language": "pl", "task": "transcribe", "num_beams": 1, "do_sample": False}

    def measure(batch: int) -> tuple[float, int]:
        sounds = [{"raw": window, "sampling_rate": SAMPLE_RATE} for window in windows]
        start = time.perf_counter()
        found = recogniser(sounds, batch_size=batch, generate_kwargs=settings)
        return time.perf_counter() - start, count_tokens([one["text"] for one in found])

    return {f"pipeline_{batch}": partial(measure, batch) for batch in BATCHES}


def count_tokens(texts: list[str]) -> int:
    return sum(text.count("<|unused") for text in texts)


def windows_of(files: list[np.ndarray], *settings: float) -> list[np.ndarray]:
    seconds = lambda s: (s[i : i + SAMPLE_RATE] for i in range(0, len(s), SAMPLE_RATE))  # noqa: E731
    return [w.samples for file in files for w in speech_windows(seconds(file), *settings)]


def speeds(folder: Path, shape: dict[str, int], seconds: float, rounds: int) -> dict[str, Any]:
    """Measure the seconds of each side for a recording and for clips, by turns."""
    threads = len(os.sched_getaffinity(0))
    long = [speech(seconds)]
    step, half = CLIP_SECONDS * SAMPLE_RATE, len(long[0]) // 2
    clips = [long[0][i : i + step] for i in range(0, half, step)]
    cases: dict[str, tuple[list[np.ndarray], int, tuple[float, ...]]] = {
        # sounds, the seconds of a window that set the length of texts, how windows are cut
        "long": (long, 30, ()),
        "clips": (clips, CLIP_SECONDS, (SHORT_WINDOW_SECONDS, SHORT_PAUSE_SECONDS)),
        "short_long": (long, SHORT_WINDOW_SECONDS, (SHORT_WINDOW_SECONDS, SHORT_PAUSE_SECONDS)),
    }
    sides: dict[tuple[str, str], Measure] = {}
    facts: dict[str, dict[str, Any]] = {}
    for case, (sounds, window, cut) in cases.items():
        model = random_whisper(folder / case, shape, window * TOKENS_PER_SECOND, short=bool(cut))
        windows = windows_of(sounds, *cut)
        facts[case] = {"seconds": round(sum(map(len, sounds)) / SAMPLE_RATE, 1)}
        facts[case] |= {
            "windows": len(windows),
            "tokens": len(windows) * window * TOKENS_PER_SECOND,
        }
        sides[case, "ours"] = ours(model, [wav(sound) for sound in sounds], threads)
        if case != "short_long":  # the pipeline takes as long for this recording as in "long"
            found = pipeline(model, windows, threads)
            sides |= {(case, name): measure for name, measure in found.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in sides}
    for _ in range(rounds):
        for key, measure in sides.items():
            spent, tokens = measure()
            assert tokens == facts[key[0]]["tokens"], (key, tokens, facts[key[0]])
            times[key].append(spent)
    for (case, side), rounds_spent in times.items():
        facts[case][f"{side}_s"] = round(statistics.median(rounds_spent), 2)
    return {"threads": threads, **facts}


def ratios(facts: dict[str, Any]) -> dict[str, float]:
    best = {c: min(facts[c][f"pipeline_{b}_s"] for b in BATCHES) for c in ("long", "clips")}
    per_token = best["long"] / facts["long"]["tokens"]
    ours_per_token = facts["short_long"]["ours_s"] / facts["short_long"]["tokens"]
    return {
        "speedup": round(best["long"] / facts["long"]["ours_s"], 2),
        "speedup_over_batch_1": round(facts["long"]["pipeline_1_s"] / facts["long"]["ours_s"], 2),
        "short_context_speedup": round(best["clips"] / facts["clips"]["ours_s"], 2),
        "short_context_long_speedup": round(per_token / ours_per_token, 2),
    }


def fresh(file: Path, folder: Path) -> dict[str, Any]:
    """Transcribe a file in a process of its own; seconds count from the start of that process."""
    command = [sys.executable, "-c", FRESH, str(time.time()), str(file), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def an_hour(folder: Path, minutes: float) -> dict[str, Any]:
    """Measure the nano model in a fresh process, on an Opus file with that many minutes of speech."""
    some = speech(min(180, 60 * minutes), seed=1)
    samples = np.tile(some, round(60 * minutes * SAMPLE_RATE / len(some)))
    (folder / "hour.opus").write_bytes(encode_opus(samples, 24_000, 0))
    found = fresh(folder / "hour.opus", published_nano(folder / "nano"))
    return {
        "recording_minutes": round(len(samples) / SAMPLE_RATE / 60, 1),
        "first_text_s": round(found["first_text_s"], 2),
        "recording_s": round(found["all_s"], 1),
        "peak_gib": round(found["peak_gib"], 3),
        "mib_every_5_minutes": found["mib_every_5_minutes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="of speech, for the speeds")
    parser.add_argument("--hour", type=float, default=60.0, help="minutes of the long recording")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tiny model, nothing kept")
    options = parser.parse_args()
    if options.quick:
        options.minutes, options.hour, options.rounds = 0.5, 1.0, 1
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        shape = TINY if options.quick else SMALL
        facts = speeds(folder, shape, 60 * options.minutes, options.rounds)
        (folder / "clip.wav").write_bytes(wav(speech(CLIP_SECONDS)))
        cold = fresh(folder / "clip.wav", folder / "clips")
        figures = ratios(facts) | {
            "cold_start_s": round(cold["first_text_s"], 2),
            "cold_load_s": round(cold["load_s"], 2),
        }
        figures |= an_hour(folder, options.hour) | {"shape": shape, **facts}
    report("transcription", figures, table(figures), keep=not options.quick)


def table(figures: dict) -> str:
    lines = [f"{'':12}{'windows':>9}{'tokens':>9}{'ours s':>9}{'pipeline s, batch 1 and 4':>28}"]
    for case in ("long", "clips", "short_long"):
        facts = figures[case]
        theirs = "  ".join(f"{facts[f'pipeline_{b}_s']}" for b in BATCHES if case != "short_long")
        row = f"{case:12}{facts['windows']:>9}{facts['tokens']:>9}{facts['ours_s']:>9}{theirs:>28}"
        lines.append(row)
    lines.append(
        f"first text of {figures['recording_minutes']} minutes after {figures['first_text_s']} s, "
        f"all after {figures['recording_s']} s; peak {figures['peak_gib']} GiB, by 5 minutes "
        f"{figures['mib_every_5_minutes']} MiB; cold start {figures['cold_start_s']} s"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
