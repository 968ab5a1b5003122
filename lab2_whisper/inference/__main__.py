"""Transcribe many recordings to subtitles and text, from the command line.

    python -m lab2_whisper.inference interviews/*.mp3 --language pl --formats vtt,txt --into texts

When a file fails, the error is printed and the next file is transcribed; the exit status is then 1.
Files are written whole: each appears under its name once it is complete, and replaces an older one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from lab2_whisper.inference.subtitles import MAX_TIME_MS, WRITERS, cues
from lab2_whisper.inference.transcribe import Limits, Transcriber, load, transcribe
from lab2_whisper.schema import LANGUAGE, LabError

MODEL = "Systran/faster-whisper-small"  # on the Hub: OpenAI's small model for CTranslate2
OWN_FILES = Limits(seconds=MAX_TIME_MS / 1000, bytes=2**40)  # up to the last time in subtitles
_BAR = "{desc} |{bar}| {n_fmt}/{total_fmt} s of sound, {remaining} left"


def main(arguments: list[str] | None = None) -> int:
    """Transcribe the files in the arguments, sys.argv by default; return the exit status."""
    options = _options(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # the bar needs the line to itself
    try:
        outputs = _outputs(options.files, options.formats, options.into)
        transcriber = load(options.model)
        transcriber.check(options.language)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    failed = 0
    for number, (file, paths) in enumerate(outputs.items(), 1):
        title = f"{number}/{len(outputs)} {file.name}"
        try:
            _transcribe_file(file, paths, transcriber, options.language, title)
        except KeyboardInterrupt:
            print("Stopped. The files written so far are complete.", file=sys.stderr)
            return 130
        except Exception as error:  # one file must not cost the others
            failed += 1
            print(f"{file}: {_explanation(error)}", file=sys.stderr)
    return 1 if failed else 0


def _explanation(error: Exception) -> str:
    """Return what to print for an error: one line, or for a bug in the program its trace as well."""
    if isinstance(error, LabError):
        return str(error)
    named = f"{type(error).__name__}: {error}"
    if not isinstance(error, TypeError | AttributeError | NameError | AssertionError):
        return named  # of a library: memory, the GPU, the disk
    trace = "".join(traceback.format_exception(error))
    return f"{named}\n{trace}This is a bug in the program, not a fault of the file."


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab2_whisper.inference",
        description="Transcribe recordings to subtitles and text.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio or video")
    parser.add_argument(
        "--model", default=MODEL, help=f"a folder, or a name on the Hub (default: {MODEL})"
    )
    parser.add_argument(
        "--language", default=LANGUAGE, help=f"a code such as en (default: {LANGUAGE})"
    )
    parser.add_argument(
        "--formats",
        default=list(WRITERS),
        type=_formats,
        help=f"any of {','.join(WRITERS)}, separated by commas (default: all)",
    )
    parser.add_argument(
        "--into", type=Path, metavar="DIR", help="where to write (default: beside each file)"
    )
    return parser.parse_args(arguments)


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"{name!r} must be one of {', '.join(WRITERS)}")
    return names


def _outputs(files: list[Path], formats: list[str], into: Path | None) -> dict[Path, list[Path]]:
    """Return the paths to write for each file. Raises LabError where one would replace another."""
    wanted: dict[Path, list[Path]] = {}
    owners = {file.resolve(): file for file in files}
    for file in dict.fromkeys(files):
        wanted[file] = [(into or file.parent) / f"{file.stem}.{form}" for form in formats]
        for output in wanted[file]:
            owner = owners.setdefault(output.resolve(), file)
            if owner is not file or output.resolve() == file.resolve():
                raise LabError(
                    f"The output for {file} would replace {output}, which belongs to {owner}. "
                    "Rename one of them, or choose another folder with --into."
                )
    return wanted


def _transcribe_file(
    file: Path, outputs: list[Path], transcriber: Transcriber, language: str, title: str
) -> None:
    """Transcribe a file and write its outputs, with a progress bar in seconds of sound."""
    with tqdm(desc=title, unit="s", bar_format=_BAR, disable=None) as bar:

        def show(done: float, total: float | None) -> None:
            bar.total = total and round(total)
            bar.update(round(done) - bar.n)

        segments = transcribe(file, transcriber, language, limits=OWN_FILES, on_progress=show)
        made = cues(segments)
    if not made:
        print(f"{file}: no speech was found.", file=sys.stderr)
    _write((path, WRITERS[path.suffix[1:]](made)) for path in outputs)


def _write(texts: Iterable[tuple[Path, str]]) -> None:
    """Write the files and print their paths; none if one of the texts cannot be made."""
    for path, text in list(texts):  # all texts first
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".transcribe-") as folder:
            draft = Path(folder, path.name)
            draft.write_text(text, encoding="utf-8", newline="\n")
            os.replace(draft, path)
        print(path)


if __name__ == "__main__":
    sys.exit(main())
