"""Speed of transcription against the transformers pipeline, its start, and an hour in little memory.

    python benchmarks/transcription.py [--minutes 2] [--hour 60] [--rounds 2] [--quick]

Speed: a Whisper of whisper-small's shape with random weights, which both sides decode greedily. Its
table of positions is made so that a text ends after the same number of tokens each time: 5 tokens
for a second of sound, about as many as Polish has. Both sides have the same CPU threads and hear
the same windows, all of it speech by espeak-ng: the pipeline (float32) is handed the windows that
our path cuts, without the overlap of 5 s on each side that its own chunks of 30 s would add; ours
(CTranslate2, int8) starts from the file and also decodes it and looks for speech. Neither times
words. The pipeline is measured with batches of 1 and of 4, and the faster one counts.

    speedup                      windows of up to 30 s of a recording without a pause
    short_context_speedup        clips of about 5 s, each its own file, as in Common Voice
    short_context_long_speedup   the recording again, cut into windows of at most 10 s

The sides take turns; figures are medians over the rounds. In fresh processes:

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

import numpy as np
import soundfile
from _report import report

from lab2_whisper.audio import encode_opus
from lab2_whisper.inference.transcribe import SHORT_PAUSE, SHORT_SECONDS, load, transcribe
from lab2_whisper.inference.vad import speech_windows
from lab2_whisper.nano.make import VOICES, sentence, synthesize
from lab2_whisper.schema import NANO_MODEL, NANO_TOKENIZER, SAMPLE_RATE

TOKENS_PER_SECOND = 5
CLIP_SECONDS = 5
BATCHES = (1, 4)
END, PROMPT = 50_257, 4  # <|endoftext|>; tokens before the text
FIRST_UNUSED, AFTER_UNUSED = 274, 50_256  # nano's tokens without a meaning: easy to count in a text
SMALL = {"d_model": 768, "layers": 12, "heads": 12}
TINY = {"d_model": 64, "layers": 2, "heads": 2}

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
    """Sentences in many voices without a pause between them, 16 kHz mono float32."""
    rng, parts, count = random.Random(seed), [], 0
    voices = [voice for group in VOICES.values() for voice in group]
    while count < seconds * SAMPLE_RATE:
        said = synthesize(sentence(rng), rng.choice(voices), speed=rng.randrange(140, 190))
        parts.append(_trimmed(said))
        count += len(parts[-1])
    return np.concatenate(parts)[: round(seconds * SAMPLE_RATE)]


def _trimmed(said: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(said) > 0.01)
    return said[loud[0] : loud[-1] + 1]


def random_whisper(folder: Path, shape: dict[str, int], tokens: int, short: bool) -> Path:
    """A published Whisper with random weights, whose texts have so many tokens."""
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
        decoder_ffn_dim=4 * d, pad_token_id=END, bos_token_id=END, eos_token_id=END,
        decoder_start_token_id=END + 1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():  # from the last token on, every position says: the end
        end = model.proj_out.weight[END].normal_(std=config.init_std)  # zeros: it also pads
        last = PROMPT + tokens - 1
        model.model.decoder.embed_positions.weight[last:] += 1000 * end / end.norm()
    never = [*range(FIRST_UNUSED), AFTER_UNUSED, *range(END + 1, 51_865)]
    model.generation_config = GenerationConfig(
        bos_token_id=END, eos_token_id=END, pad_token_id=END, decoder_start_token_id=END + 1,
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


def ours(folder: Path, files: list[bytes], threads: int) -> Callable[[], tuple[float, int]]:
    """A measurement of our path: seconds, and tokens that were heard."""
    model = load(folder, device="cpu", threads=threads)

    def measure() -> tuple[float, int]:
        start = time.perf_counter()
        texts = [segment.text for file in files for segment in transcribe(file, model)]
        return time.perf_counter() - start, count_tokens(texts)

    return measure


def pipeline(folder: Path, windows: list[np.ndarray], threads: int) -> dict[str, Callable]:
    """The same of the transformers pipeline, handed the windows in batches of each size."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    hear = transformers.pipeline(
        "automatic-speech-recognition", str(folder), dtype=torch.float32, device="cpu"
    )
    hear.tokenizer.pad_token_id = END  # without one it makes no batches
    settings = {"language": "pl", "task": "transcribe", "num_beams": 1, "do_sample": False}

    def measure(batch: int) -> tuple[float, int]:
        sounds = [{"raw": window, "sampling_rate": SAMPLE_RATE} for window in windows]
        start = time.perf_counter()
        found = hear(sounds, batch_size=batch, generate_kwargs=settings)
        return time.perf_counter() - start, count_tokens([one["text"] for one in found])

    return {f"pipeline_{batch}": partial(measure, batch) for batch in BATCHES}


def count_tokens(texts: list[str]) -> int:
    return sum(text.count("<|unused") for text in texts)


def windows_of(files: list[np.ndarray], *settings: float) -> list[np.ndarray]:
    seconds = lambda s: (s[i : i + SAMPLE_RATE] for i in range(0, len(s), SAMPLE_RATE))  # noqa: E731
    return [w.samples for file in files for w in speech_windows(seconds(file), *settings)]


def speeds(folder: Path, shape: dict[str, int], seconds: float, rounds: int) -> dict:
    """Seconds of each side for a recording and for clips, by turns, and what they have in common."""
    threads = len(os.sched_getaffinity(0))
    long = [speech(seconds)]
    step, half = CLIP_SECONDS * SAMPLE_RATE, len(long[0]) // 2
    clips = [long[0][i : i + step] for i in range(0, half, step)]
    cases = {  # sound, seconds of a window by which texts have their length, how it is cut
        "long": (long, 30, ()),
        "clips": (clips, CLIP_SECONDS, (SHORT_SECONDS, SHORT_PAUSE)),
        "short_long": (long, SHORT_SECONDS, (SHORT_SECONDS, SHORT_PAUSE)),
    }
    sides, facts = {}, {}
    for case, (sounds, window, cut) in cases.items():
        model = random_whisper(folder / case, shape, window * TOKENS_PER_SECOND, short=bool(cut))
        windows = windows_of(sounds, *cut)
        facts[case] = {"seconds": round(sum(map(len, sounds)) / SAMPLE_RATE, 1)}
        facts[case] |= {
            "windows": len(windows),
            "tokens": len(windows) * window * TOKENS_PER_SECOND,
        }
        sides[case, "ours"] = ours(model, [wav(sound) for sound in sounds], threads)
        if case != "short_long":  # the pipeline's time for the recording is that of `long`
            found = pipeline(model, windows, threads)
            sides |= {(case, name): measure for name, measure in found.items()}
    times = {side: [] for side in sides}
    for _ in range(rounds):
        for side, measure in sides.items():
            spent, tokens = measure()
            assert tokens == facts[side[0]]["tokens"], (side, tokens, facts[side[0]])
            times[side].append(spent)
    for (case, side), spent in times.items():
        facts[case][f"{side}_s"] = round(statistics.median(spent), 2)
    return {"threads": threads, **facts}


def ratios(facts: dict) -> dict[str, float]:
    best = {c: min(facts[c][f"pipeline_{b}_s"] for b in BATCHES) for c in ("long", "clips")}
    per_token = best["long"] / facts["long"]["tokens"]
    mine = facts["short_long"]["ours_s"] / facts["short_long"]["tokens"]
    return {
        "speedup": round(best["long"] / facts["long"]["ours_s"], 2),
        "speedup_over_batch_1": round(facts["long"]["pipeline_1_s"] / facts["long"]["ours_s"], 2),
        "short_context_speedup": round(best["clips"] / facts["clips"]["ours_s"], 2),
        "short_context_long_speedup": round(per_token / mine, 2),
    }


def fresh(file: Path, folder: Path) -> dict:
    """A transcription in a process of its own; seconds count from its start."""
    command = [sys.executable, "-c", FRESH, str(time.time()), str(file), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def an_hour(folder: Path, minutes: float) -> dict:
    """An Opus file of so many minutes of speech, heard by the nano model in a fresh process."""
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
