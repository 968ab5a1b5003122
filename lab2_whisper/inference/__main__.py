"""Many recordings to subtitles, from the command line.

    python -m lab2_whisper.inference interviews/*.mp3 --language pl --formats vtt,txt --into texts

A file that fails is told of and the next one begun; the exit status is 1 then. What is written is
whole: a file appears under its name once all of it is there, and replaces an older one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from lab2_whisper.inference.subtitles import LAST, WRITERS, cues
from lab2_whisper.inference.transcribe import Limits, Transcriber, load, transcribe
from lab2_whisper.schema import LANGUAGE, LabError

MODEL = "Systran/faster-whisper-small"  # on the Hub: OpenAI's small model for CTranslate2
OWN_FILES = Limits(seconds=LAST / 1000, bytes=2**40)  # all that subtitles can count


def main(arguments: list[str] | None = None) -> int:
    """Transcribe the files that the arguments name. Returns the exit status."""
    options = _options(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # the bar needs the line to itself
    try:
        wanted = _outputs(options.files, options.formats, options.into)
        transcriber = load(options.model)
        transcriber.check(options.language)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    failed = 0
    for number, (file, outputs) in enumerate(wanted.items(), 1):
        title = f"{number}/{len(wanted)} {file.name}"
        try:
            _transcribe_file(file, outputs, transcriber, options.language, title)
        except KeyboardInterrupt:
            print("Stopped. What was written before is whole.", file=sys.stderr)
            return 130
        except Exception as error:  # whatever is wrong with one file, the next may be well
            failed += 1
            kind = "" if isinstance(error, LabError) else f"{type(error).__name__}: "
            print(f"{file}: {kind}{error}", file=sys.stderr)
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab2_whisper.inference", description="Recordings to subtitles and text."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio or video")
    parser.add_argument("--model", default=MODEL, help=f"a folder, or a name on the Hub ({MODEL})")
    parser.add_argument("--language", default=LANGUAGE, help=f"a code such as en ({LANGUAGE})")
    parser.add_argument(
        "--formats",
        default=list(WRITERS),
        type=_formats,
        help=f"some of {','.join(WRITERS)}, with commas between (all)",
    )
    parser.add_argument("--into", type=Path, metavar="DIR", help="a folder (beside each file)")
    return parser.parse_args(arguments)


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(WRITERS)}")
    return names


def _outputs(files: list[Path], formats: list[str], into: Path | None) -> dict[Path, list[Path]]:
    """The paths to write for each file. Raises LabError where one would replace another."""
    wanted, owners = {}, {file.resolve(): file for file in files}
    for file in dict.fromkeys(files):
        wanted[file] = [(into or file.parent) / f"{file.stem}.{form}" for form in formats]
        for output in wanted[file]:
            owner = owners.setdefault(output.resolve(), file)
            if owner is not file or output.resolve() == file.resolve():
                raise LabError(
                    f"The text of {file} would replace {output}, which belongs to {owner}. "
                    "Rename one of them, or choose another folder with --into."
                )
    return wanted


def _transcribe_file(
    file: Path, outputs: list[Path], transcriber: Transcriber, language: str, title: str
) -> None:
    with tqdm(desc=title, unit="s", bar_format=_BAR, disable=None) as bar:

        def show(done: float, total: float | None) -> None:
            bar.total = total and round(total)
            bar.update(round(done) - bar.n)

        segments = transcribe(file, transcriber, language, limits=OWN_FILES, on_progress=show)
        made = cues(segments)
    if not made:
        print(f"{file}: no speech was found.", file=sys.stderr)
    _write((path, WRITERS[path.suffix[1:]](made)) for path in outputs)


_BAR = "{desc} |{bar}| {n_fmt}/{total_fmt} s of sound, {remaining} left"


def _write(texts: Iterable[tuple[Path, str]]) -> None:
    """Write all or, where one text cannot be made, none; print the paths."""
    for path, text in list(texts):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".transcribe-") as folder:
            draft = Path(folder, path.name)
            draft.write_text(text, encoding="utf-8", newline="\n")
            os.replace(draft, path)
        print(path)


if __name__ == "__main__":
    sys.exit(main())
