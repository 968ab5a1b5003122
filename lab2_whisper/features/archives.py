"""Tar archives from anywhere, read from front to end. Nothing is written to disk.

Sizes and names in an archive are claims. `tarfile` believes them: it reads a header of 3 GiB into
memory, fills the holes of sparse files, follows links when it unpacks, and takes a broken header in
the middle for the end. Here only plain files are yielded, and what a header may take is limited.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol

BLOCK_BYTES = 512
PIECE_BYTES = 1 << 18  # read at once
MAX_HEADER_BYTES = 16 << 10  # of an extended header, which holds a long name
MAX_RATIO = 100  # a table of Common Voice shrinks 5 to 20 times, gzip reaches 1,000
FREE_BYTES = 64 << 20  # unpacked before the ratio counts

GZIP_MAGIC = b"\x1f\x8b"
LONGER = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
WITHOUT_CONTENT = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
PAX_RECORD = re.compile(rb"(\d{1,6}) ([^=\n]+)=")


class Stream(Protocol):
    """What an archive is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


class Unzipped:
    """The bytes of a tar or tar.gz, limited in how much a few compressed bytes may become."""

    def __init__(self, file: IO[bytes]):
        self._compressed = file
        zipped = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        self._file: Stream = gzip.GzipFile(fileobj=file) if zipped else file
        self._spent = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end. Raises tarfile.ReadError where it is damaged."""
        try:
            data = self._file.read(size)
        except (EOFError, OSError, zlib.error) as error:
            raise tarfile.ReadError(str(error)) from error
        self.spend(len(data))
        return data

    def spend(self, size: int) -> None:
        """Count bytes that were unpacked, or memory that they take up.

        Raises tarfile.ReadError above MAX_RATIO times the compressed bytes read so far.
        """
        self._spent += size
        if self._spent > FREE_BYTES + MAX_RATIO * self._compressed.tell():
            raise tarfile.ReadError(f"it unpacks to more than {MAX_RATIO} times its size")


class Content(io.RawIOBase):
    """The content of one file in an archive, `left` bytes of it not read yet."""

    def __init__(self, stream: Stream, size: int):
        super().__init__()
        self._stream = stream
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there is content. Raises tarfile.ReadError where it is cut off."""
        data = _exactly(self._stream, min(len(buffer), self.left))
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def skip(self) -> None:
        """Pass over what was not read."""
        unread = bytearray(PIECE_BYTES)
        while self.readinto(unread):
            pass


def plain_files(stream: Stream) -> Iterator[tuple[str, Content]]:
    """Yield the name of each plain file and its content, to be read before the next one.

    Folders, links and devices are passed over. Raises tarfile.TarError for what is not a whole
    archive, for a sparse file and for an extended header above MAX_HEADER_BYTES.
    """
    longer: dict[str, str] = {}  # from extended headers, for the next file
    while header := _header(stream):
        if header.type in LONGER:
            longer |= _longer(stream, header)
            continue
        plain = header.type in PLAIN
        content = _content(stream, header, longer if plain else {})
        padding = -content.left % BLOCK_BYTES
        if plain:
            yield longer.get("path", header.name), content
        if plain or header.type in WITHOUT_CONTENT:
            longer = {}
        content.skip()
        _exactly(stream, padding)
    while stream.read(PIECE_BYTES):  # gzip's checksum is at the end
        pass


def _header(stream: Stream) -> tarfile.TarInfo | None:
    """Return the next header; None at the end of the archive."""
    block = stream.read(BLOCK_BYTES)
    if not block or not any(block):
        return None
    block += _exactly(stream, BLOCK_BYTES - len(block))
    header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    if header.type == tarfile.GNUTYPE_SPARSE:
        raise tarfile.ReadError("it holds a sparse file")
    return header


def _content(stream: Stream, header: tarfile.TarInfo, longer: dict[str, str]) -> Content:
    size = int(longer.get("size", header.size))
    if size < 0:
        raise tarfile.ReadError("it holds a file of negative size")
    return Content(stream, 0 if header.type in WITHOUT_CONTENT else size)


def _longer(stream: Stream, header: tarfile.TarInfo) -> dict[str, str]:
    """Return what an extended header gives for the next file, such as its path or size in bytes."""
    if not 0 <= header.size <= MAX_HEADER_BYTES:
        raise tarfile.ReadError(
            f"it holds a header of {header.size} bytes, the limit is {MAX_HEADER_BYTES}"
        )
    data = _exactly(stream, header.size)
    _exactly(stream, -header.size % BLOCK_BYTES)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "replace")}
    facts = {}
    while data.strip(b"\0"):
        key, value, data = _record(data)
        if key.startswith("GNU.sparse."):
            raise tarfile.ReadError("it holds a sparse file")
        if key == "size" and not re.fullmatch(r"[0-9]{1,18}", value):
            raise tarfile.ReadError("it holds a broken header")
        facts[key] = value
    return facts


def _record(data: bytes) -> tuple[str, str, bytes]:
    """Return the key and value of the first record of a pax header, and the records after it."""
    found = PAX_RECORD.match(data)
    end = int(found[1]) if found else 0
    if not found or not found.end() < end <= len(data):
        raise tarfile.ReadError("it holds a broken header")
    value = data[found.end() : end - 1]  # without the line break
    return found[2].decode("utf-8", "replace"), value.decode("utf-8", "replace"), data[end:]


def _exactly(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            raise tarfile.ReadError("it is cut short")
        data += piece
    return data
