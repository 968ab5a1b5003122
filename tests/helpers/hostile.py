"""Archives made to do harm, and a process whose memory, files and time are limited to open them in."""

import contextlib
import os
import resource
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

TESTS = Path(__file__).parents[1]
MIB = 1 << 20
TABLE = "cv/pl/train.tsv"
HEADER = b"client_id\tpath\tsentence\n"


# ------------------------------------------------------------------------- a limited process


def run_limited(code: str, *arguments: object, memory_mib: int = 512, seconds: int = 60) -> str:
    """Run code in a process of its own and return what it prints.

    `limit()` in it forbids more than `memory_mib` above what it takes then, a file above 64 MiB
    and more than `seconds` of CPU.
    """
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    limits = {"LIMIT_MIB": str(memory_mib), "LIMIT_SECONDS": str(seconds)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **limits},
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * seconds,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-5_000:]}"
    return done.stdout


def limit() -> None:
    """Limit this process from here on, as `run_limited` says."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory = taken + int(os.environ["LIMIT_MIB"]) * MIB
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    seconds = round(used) + int(os.environ["LIMIT_SECONDS"])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * MIB, 64 * MIB))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


# --------------------------------------------------------------------------------- archives


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    """Return a header that claims a size in bytes, in GNU's format."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.PAX_FORMAT if member.pax_headers else tarfile.GNU_FORMAT)


def file(name: str, data: bytes) -> bytes:
    """Return a whole plain file in an archive."""
    return header(name, len(data)) + data + bytes(-len(data) % 512)


def bomb(first: bytes, piece: bytes, times: int) -> bytes:
    """Return a gzip of `first` and so many copies of `piece`, made without unpacking it."""
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
    copy = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + copy * times


def pax_hole(name: str, size: int) -> bytes:
    """Return a sparse file whose content is one hole."""
    facts = {"GNU.sparse.size": str(size), "GNU.sparse.map": f"{size},0"}
    return header(name, 0, pax_headers=facts)


def chain_of_links(target: str, data: bytes) -> bytes:
    """Return links so long that a check of paths gives up, and a file that leads through them.

    The link `escape` leads to `target`, seen from the folder that the archive is unpacked to. See
    CVE-2025-4517, with which tarfile's filter="data" lets the file through.
    """
    long, letters, path, members = "d" * 247, "abcdefghijklmnop", "", b""
    for letter in letters:
        members += header(f"{path}{long}", 0, tarfile.DIRTYPE, mode=0o755)
        members += header(f"{path}{letter}", 0, tarfile.SYMTYPE, linkname=long)
        path += f"{long}/"
    back = "/".join(letters) + "/" + "l" * 254
    members += header(back, 0, tarfile.SYMTYPE, linkname="../" * len(letters))
    members += header("escape", 0, tarfile.SYMTYPE, linkname=f"{back}/{target}")
    return members + file("escape/file", data)


TABLE_START = header(TABLE, 400 * MIB)
BOMBS = {
    "table": lambda: bomb(TABLE_START + HEADER, b"s\ta\tb\n" * 699_051, 100),
    "malformed": lambda: bomb(TABLE_START + HEADER, b"x\n" * (2 * MIB), 100),
    "one line": lambda: bomb(header(TABLE, 3 << 30) + HEADER, b"x" * MIB, 3 << 10),
    "header": lambda: bomb(header("././@PaxHeader", 3 << 30, tarfile.XHDTYPE), bytes(MIB), 3 << 10),
    "name": lambda: bomb(
        header("././@LongLink", 3 << 30, tarfile.GNUTYPE_LONGNAME), b"x" * MIB, 3 << 10
    ),
    "headers": lambda: bomb(
        b"", (header("././@LongLink", 1, tarfile.GNUTYPE_LONGNAME) + b"x" + bytes(511)) * 999, 9
    ),
    "hole": lambda: zlib.compress(pax_hole(TABLE, 1 << 40) + bytes(1024), wbits=31),
    "other file": lambda: bomb(header("cv/README", 3 << 30), bytes(MIB), 3 << 10),
    "members": lambda: bomb(b"", b"".join(header(f"cv/pl/clips/{i}", 0) for i in range(999)), 30),
    "claim": lambda: zlib.compress(header(TABLE, 1 << 50) + HEADER, wbits=31),
}  # fmt: skip


WANTED = [TABLE, "cv/pl/clips/a.mp3", "optimizer.pt", "kept/best/model.safetensors", *"abcdef"]
HARMFUL = ["../victim", "../../victim", "/tmp/victim", "a/../../../victim", "link/victim", "link"]
ODD = ["", ".", "./a", "a/b/c/d/e/f", "x" * 300, "nul\0.mp3", "CON", "\udcff", "two\nlines", "a\\b"]
SPARSE = ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "path", "size"]


def random_archive(seed: int, zipped: bool) -> bytes:
    """Return an archive of a few members, whole, cut short or with a byte changed."""
    random = Random(seed)
    data = b"".join(_member(random) for _ in range(random.randint(0, 6))) + bytes(1024)
    data = zlib.compress(data, wbits=31) if zipped else data
    place = random.randrange(len(data))
    match random.randrange(6):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + random.randbytes(1) + data[place + 1 :]
    return data


def _member(random: Random) -> bytes:
    """Return a member, harmless or of any type, name, size and target of a link."""

    def some(usual: object, *others: object) -> Any:
        return usual if random.random() < 0.9 else random.choice(others)

    data = random.choice([b"x" * random.randrange(600), HEADER + b"s\ta.mp3\tRaz\n"])
    member = tarfile.TarInfo(some(random.choice(WANTED), *HARMFUL, *ODD))
    member.type = some(tarfile.REGTYPE, *tarfile.SUPPORTED_TYPES, b"x", b"g", b"X", b"Z")
    if member.type in b"123456":
        data = some(b"", data)
    member.linkname = random.choice(["..", "../..", "/", "link", "/tmp/victim", ""])
    member.size = some(len(data), 0, 1 << 33, 1 << 60, -1, -512)
    facts = ["1", "0,9999999999", "-1", "x", "../victim", "9" * 18, ""]
    member.pax_headers = some({}, *({name: random.choice(facts)} for name in SPARSE))
    layout = tarfile.PAX_FORMAT if member.pax_headers else tarfile.GNU_FORMAT
    return member.tobuf(layout, errors="surrogateescape") + data + bytes(-len(data) % 512)


@contextlib.contextmanager
def nothing_written(folder: Path, except_in: Path) -> Iterator[None]:
    """Compare what is in a folder before and after, outside of `except_in`."""

    def there() -> dict[Path, bytes | str | None]:
        found: dict[Path, bytes | str | None] = {}
        for path in folder.rglob("*"):
            if not path.is_relative_to(except_in):
                linked = path.is_symlink()
                found[path] = os.readlink(path) if linked else path.is_file() and path.read_bytes()
        return found

    before = there()
    yield
    assert there() == before
