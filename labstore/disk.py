"""A store's folder on a disk that may be full, or on a Drive that may be gone.

The marker is a file at the folder's root, written at the first write. Once an instance has seen it,
or what an older version wrote without one, a folder that shows neither is not an empty store: it is
out of reach.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from labstore.contract import NotWritable, StoreError
from labstore.versions import UNREACHABLE, cannot_read, unreachable

MARKER = "ml-labs-store.json"
PARTS = ("groups", "files", "models")
PIECE_BYTES = 1 << 20  # read at once when a file is copied


class Disk:
    """The folder of a store: its files are listed, read, written and removed here."""

    def __init__(self, root: str | Path, mount: str | Path | None = None):
        """Name the folder and, where it is on a mounted Drive, the mount; nothing is created."""
        self.root = Path(root)
        self._mount = None if mount is None else Path(mount)
        self._seen = self._marked = False

    def _reach(self) -> None:
        """Raise Unreachable where the Drive is not mounted, or a store that was here is gone."""
        if self._mount is not None and not _exists(self._mount):
            raise unreachable(self._mount, "is not there")
        there = any(_exists(self.root / name) for name in (MARKER, *PARTS))
        if self._seen and not there:
            raise unreachable(self.root, "held a store, which is gone")
        self._seen = there

    def _list(self, folder: Path) -> list[Path]:
        """Return what is in a folder of the store; nothing where there is no such folder."""
        self._reach()
        return list_folder(folder)

    def _copy(self, source: Path, target: Path) -> tuple[int, str]:
        """Copy a file piece by piece. Returns its size in bytes and its sha256."""
        size, sha256 = 0, hashlib.sha256()
        with source.open("rb") as reader, self._writing(target) as writer:
            while piece := reader.read(PIECE_BYTES):
                writer.write(piece)
                sha256.update(piece)
                size += len(piece)
        return size, sha256.hexdigest()

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        with self._writing(path) as file:
            file.write(data)

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[BinaryIO]:
        """Write a new file to the end, or remove what was written of it."""
        file = self._create(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            discard(path)
            raise self._not_writable(path, error) from error

    def _create(self, path: Path) -> BinaryIO:
        """Open a new file for writing, its folders and the store's marker made where needed."""
        self._reach()
        try:
            self._make_folder(path.parent)
            if not self._marked:
                with contextlib.suppress(FileExistsError), (self.root / MARKER).open("xb") as file:
                    file.write(b'{"format": 1}\n')
                self._marked = self._seen = True
            return path.open("xb")
        except OSError as error:
            raise self._not_writable(path, error) from error

    def _make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        if self._mount in missing:
            raise unreachable(folder, "is not there")
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_folder(path.parent)

    def _not_writable(self, path: Path, error: OSError) -> StoreError:
        """Return the error for a failed write, with what to do about its cause."""
        if error.errno in UNREACHABLE:
            return unreachable(path, f"cannot be written ({error.strerror})")
        if error.errno == errno.EDQUOT:
            fix = "Free some of the quota (on Google Drive: empty its trash) and run this again."
            return NotWritable(f"Cannot write {path}: {error.strerror}. {fix}")
        full = error.errno == errno.ENOSPC
        fix = "Free some space" if full else "Choose a folder that you may write to"
        return NotWritable(
            f"Cannot write {path}: {error.strerror}. {fix} and run this again; a folder is chosen "
            "with open_store('FOLDER') or the environment variable LABS_STORE."
        )


def list_folder(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing where there is no such folder."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot_read(folder, error) from error


def regular_files(folder: Path) -> list[Path]:
    """Return the files in a folder and the folders in it, in order; none where it is absent.

    Raises StoreError, which names it, for a link or anything else that is neither file nor folder,
    and for a folder that cannot be read: nothing is left out silently.
    """
    found: list[Path] = []
    for path in sorted(list_folder(folder)):
        if not path.is_symlink() and path.is_dir():
            found += regular_files(path)
        elif path.is_symlink() or not path.is_file():
            what = "a link" if path.is_symlink() else "neither a file nor a folder"
            raise StoreError(
                f"{path} is {what}, which a store cannot keep. Put a copy of what it shows in its "
                "place (cp -RL copies a folder so), or remove it."
            )
        else:
            found.append(path)
    return found


def sync_folder(folder: Path) -> None:
    """Make a folder's new names survive a power cut, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in {errno.EIO, errno.ENOSPC, errno.EDQUOT}:
            raise
    finally:
        os.close(handle)


def discard(path: Path) -> None:
    """Remove a file or a folder as far as that is possible, and nothing that has another name.

    Files are emptied first, since Drive moves removed ones to its trash, where they use up space.
    A link is removed, not followed; a file that has a second name is left whole under that one.
    """
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            facts = path.lstat()
            if not path.is_symlink() and path.is_file() and facts.st_nlink == 1:
                os.truncate(path, 0)
            path.unlink()
            return
        for inside in list(path.iterdir()):
            discard(inside)
        path.rmdir()


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot_read(path, error) from error
    return True
