"""Download Whisper's own vocabulary to build/whisper, for the tests of labels, without the Hub.

It is taken from the wheel of mlx-whisper, which is unpacked and not installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, INSIDE = "mlx-whisper==0.4.3", "mlx_whisper/assets/multilingual.tiktoken"
SHA256 = "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126"
TARGET = Path(__file__).resolve().parent.parent / "build" / "whisper" / "multilingual.tiktoken"


def main() -> None:
    """Download the wheel, check the vocabulary's checksum and save it. Exits where that fails."""
    pip = [sys.executable, "-m", "pip", "download"]
    pip += ["--quiet", "--no-deps", "--only-binary", ":all:"]
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run([*pip, "--dest", folder, PACKAGE], check=False).returncode:
            sys.exit(
                f"{PACKAGE} could not be downloaded. The tests of the real tokenizer are skipped."
            )
        (wheel,) = Path(folder).glob("*.whl")
        vocabulary = zipfile.ZipFile(wheel).read(INSIDE)
    if hashlib.sha256(vocabulary).hexdigest() != SHA256:
        sys.exit(f"{INSIDE} of {PACKAGE} does not have the expected checksum.")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(vocabulary)


if __name__ == "__main__":
    main()
