"""Commits and versions: their names, their manifests and checksums, and which version is best.

A manifest is one JSON object. It carries `format`, and `manifest_sha256` over everything else in
it. Manifests written before November 2026 carry no `format`; they are read as format 1.

A later format may change what a manifest and its files hold. Three things stay the same in every
format, so that this version can tell "newer" from "damaged": where a manifest lies
(groups/NAME_vVERSION/COMMIT.json, files/NAME/COMMIT/manifest.json, models/NAME/COMMIT/manifest.json),
how a commit is named, and that `manifest_sha256` is computed over all other keys. The checksum is
compared first, then the format, and only then is any other key read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from importlib import metadata as installed
from pathlib import Path, PurePosixPath
from typing import Any

from labstore.contract import (
    Damaged,
    Kind,
    Model,
    NewerFormat,
    NotFound,
    StoreError,
    Unreachable,
    is_name,
)

FORMAT = 1
STAMP = "%Y%m%dT%H%M%S%fZ"

SETTLED_SECONDS = 2  # a file changed later than this before a check may change unseen: the clock of
# a file system, of FAT at the worst, is that coarse
UNREACHABLE = {
    getattr(errno, name)
    for name in (
        *("ENOTCONN", "EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN"),
        *("ENETUNREACH", "ENODEV", "ENXIO", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}

Manifest = dict[str, Any]


# ------------------------------------------------------------------------------------ names


def is_commit(path: Path) -> bool:
    """Return whether a path is named like a manifest of rows or a version's folder.

    Drive's own copies, such as "name (1).json", are not: see `commit_of`.
    """
    return commit_of(path.name) is not None and re.search(r" |\.parquet", path.name) is None


def commit_of(name: str) -> str | None:
    """Return the commit that a file or folder belongs to by its name, None for any other.

    Drive shows a second file of the same name as "NAME (1).json".
    """
    named = re.fullmatch(
        r"(([1-8][0-9]{7}T[0-9]{12}Z)-[0-9a-f]{8})( \([0-9]+\))?(\.json|\.parquet)?", name
    )
    if named is None:
        return None
    try:
        time_of(named[2])
    except ValueError:  # such as the 32nd of a month
        return None
    return named[1]


def is_version(name: str) -> bool:
    """Return whether a text is a version's id, and no path that ends in one."""
    return is_commit(Path(name)) and "/" not in name


def commit_name(stamp: datetime) -> str:
    """Return a new name that sorts by its time (UTC) and is unique by its random part."""
    return f"{stamp.strftime(STAMP)}-{uuid.uuid4().hex[:8]}"


def time_of(name: str) -> datetime:
    """Return when a commit or version of that name was made, in UTC.

    The name begins with a STAMP, "20260131T235959999999Z"; this reads it three times as fast as
    strptime.
    """
    parts = (
        name[:4],
        name[4:6],
        name[6:8],
        name[9:11],
        name[11:13],
        name[13:15],
        name[15:21],
    )
    return datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[arg-type, misc]


def next_stamp(names: Iterable[str]) -> datetime:
    """Return the time now or, if later, just after the newest of the names.

    So an update is newer than what it updates even where the clock was set back.
    """
    latest = max((time_of(name) for name in names), default=datetime.min.replace(tzinfo=UTC))
    return max(datetime.now(UTC), latest + timedelta(microseconds=1))


# -------------------------------------------------------------------------------- manifests


def manifest_text(manifest: Manifest) -> bytes:
    """Return a manifest as it is written to a file, its own checksum included."""
    return (json.dumps(manifest | {"manifest_sha256": _sum(manifest)}) + "\n").encode()


def parse_manifest(path: Path, text: bytes) -> Manifest | None:
    """Return the manifest that a file's text begins with, None where its checksum does not hold.

    Raises NewerFormat for an intact manifest of a later format.
    """
    try:
        manifest, _ = json.JSONDecoder().raw_decode(text.decode(errors="replace"))
        if not isinstance(manifest, dict):
            return None
        if manifest.pop("manifest_sha256", None) != _sum(manifest) or not manifest:
            return None
    except (ValueError, RecursionError):  # no JSON, only its beginning, or nested too deeply
        return None
    if manifest.get("format", FORMAT) != FORMAT:
        raise _newer_format(path, manifest["format"])
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in a version's folder.

    Raises Damaged for one that is not as it was written, NewerFormat for one of a later format.
    """
    path = Path(folder) / "manifest.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    manifest = parse_manifest(path, text)
    if manifest is None:
        raise damaged(path, "is damaged")
    check_version(path, manifest)
    return manifest


def check_rows(path: Path, manifest: Manifest, name: str, group: str) -> None:
    """Raise Damaged where a group's manifest is malformed, or belongs to another place."""
    _check(path, manifest, ROWS)
    if (manifest["name"], manifest["group"]) != (name, group):
        raise _misplaced(path, f"{manifest['group']}, {manifest['name']}")


def check_version(path: Path, manifest: Manifest) -> None:
    """Raise Damaged where a version's manifest is malformed, or names a file outside its folder."""
    _check(path, manifest, VERSION)
    for inside in manifest["files"]:
        if PurePosixPath(inside).is_absolute() or ".." in PurePosixPath(inside).parts:
            raise damaged(path, f"names {inside!r}, outside its folder")


def check_place(path: Path, manifest: Manifest, kind: Kind) -> None:
    """Raise Damaged where a version's folder lies under another name, or misses its metrics."""
    version = path.parent
    if (manifest["name"], manifest["version"]) != (version.parent.name, version.name):
        raise _misplaced(path, f"{manifest['name']}, version {manifest['version']}")
    if kind == "models" and "metrics" not in manifest:
        raise damaged(path, "has no 'metrics'")


def _check(path: Path, manifest: Manifest, rules: dict[str, Callable[[Any], bool]]) -> None:
    for key, is_valid in rules.items():
        if key not in manifest and key in OPTIONAL:
            continue
        if key not in manifest or not is_valid(manifest[key]):
            what = "no" if key not in manifest else "no valid"
            raise damaged(path, f"has {what} {key!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and is_version(value)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).utcoffset() is not None
    except (TypeError, ValueError):
        return False


def _is_metrics(value: Any) -> bool:
    """Return whether these are numbers by name, none too large for a float; NaN is allowed."""
    if not isinstance(value, dict):
        return False
    return all(
        isinstance(v, float) or (type(v) is int and abs(v) < 1 << 1000) for v in value.values()
    )


def _are_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(inside)
        and isinstance(facts, dict)
        and _is_size(facts.get("bytes"))
        and _is_text(facts.get("sha256"))
        for inside, facts in value.items()
    )


ROWS: dict[str, Callable[[Any], bool]] = {
    "name": _is_id,
    "group": _is_text,
    "schema": _is_text,
    "rows": _is_size,
    "bytes": _is_size,
    "sha256": _is_text,
    "from": _is_time,
    "to": _is_time,
    "parents": _are_ids,
    "replaces": _are_ids,
    "merges": _are_ids,
}
VERSION: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and is_name(value),
    "version": _is_id,
    "files": _are_files,
    "metadata": lambda value: isinstance(value, dict),
    "metrics": _is_metrics,
}
OPTIONAL = {"metrics", "merges"}  # which only a model has, or a merge of rows


def _sum(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


# -------------------------------------------------------------------------------- checksums


_verified: dict[str, tuple[int, int, int, str]] = {}


def verify(folder: Path, manifest: Manifest, anew: bool = False) -> None:
    """Compare every file of a version with its manifest. Raises Damaged naming the first that differs."""
    for inside, facts in manifest["files"].items():
        verify_file(folder / inside, facts["sha256"], anew)


def verify_file(path: Path, sha256: str, anew: bool = False) -> None:
    """Compare a file, which may be larger than memory, with its sha256; raise Damaged if it differs.

    Once in a process, and again whenever its size or one of its times has changed; always if `anew`.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            seen = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, sha256)
            if not anew and _verified.get(os.path.abspath(path)) == seen:
                return
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise cannot_read(path, error) from error
    if found != sha256:
        raise damaged(path, "is damaged")
    if time.time() - max(facts.st_mtime, facts.st_ctime) > SETTLED_SECONDS:
        _verified[os.path.abspath(path)] = seen


# ---------------------------------------------------------------------------------- choices


def best_version(model: Model, versions: list[Manifest]) -> str:
    """Return the id of the best of several manifests by the model's metric; of equals the newest.

    A version trained on real data is better than any other, since a score on the offline sample
    does not compare with a score on real data. Raises NotFound where no version has the metric.
    """
    versions = [m for m in versions if math.isfinite(m["metrics"].get(model.metric, math.nan))]
    if not versions:
        raise NotFound(f"No version of {model.name} has the metric {model.metric!r}.")
    sign = 1 if model.direction == "max" else -1
    best = max(
        versions,
        key=lambda m: (
            m["metadata"].get("data") == "real",
            sign * m["metrics"][model.metric],
            m["version"],
        ),
    )
    return best["version"]


# ----------------------------------------------------------------------------------- errors


def damaged(path: Path, what: str) -> Damaged:
    """Return the error for a committed file that is missing or changed, with what to do."""
    return Damaged(
        f"{path} {what}, but it was committed with another content. On Google Drive it may still be "
        "on its way: wait a minute and try again. Otherwise restore it from a backup, or, if it "
        "belongs to a model's version, delete that version's folder and run the training notebook "
        "again."
    )


def unreachable(path: Path, what: str) -> Unreachable:
    """Return the error for a store that cannot be reached now; its files may well be whole."""
    return Unreachable(
        f"{path} {what}: the disk or Google Drive cannot be reached. Nothing was changed. In Colab, "
        "remount it: `from google.colab import drive; drive.mount('/content/drive', "
        "force_remount=True)`; elsewhere mount the disk again. Then run this again. If you removed "
        "the store yourself, open it anew with open_store()."
    )


def cannot_read(path: Path, error: OSError | ValueError) -> StoreError:
    """Return the error for a committed file or a folder that cannot be read, by its cause."""
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return unreachable(path, f"cannot be read ({error.strerror})")
    if isinstance(error, PermissionError):
        return StoreError(f"{path} cannot be read: {error.strerror}. Allow this user to read it.")
    return damaged(path, f"cannot be read ({getattr(error, 'strerror', None) or error})")


def _misplaced(path: Path, owner: str) -> Damaged:
    return Damaged(
        f"{path} belongs to {owner}, and was copied or moved here by something else than the store. "
        "Nothing of it was read. Move it back, or remove it from this folder."
    )


def no_such_name(kind: Kind, name: str, store: str, others: list[str]) -> NotFound:
    """Return the error that lists the names there are, and the next step."""
    return NotFound(
        f"There is no {name!r} among the {kind} of the store {store} "
        f"(there: {', '.join(others) or 'nothing yet'}). Run the lab's notebooks "
        "in order on this store (make notebooks), or open another store."
    )


def no_such_version(kind: Kind, name: str, version: str, versions: list[str]) -> NotFound:
    """Return the error that lists the newest versions there are."""
    known = [*(["best"] if kind == "models" else []), "latest", *versions[-5:]]
    return NotFound(f"{kind}/{name} has no version {version!r}. Choose one of: {', '.join(known)}.")


def _newer_format(path: Path, format_: object) -> NewerFormat:
    return NewerFormat(
        f"{path} is of format {format_!r}: it was written by a newer version of this project, and "
        f"this one reads format {FORMAT}. Update the project: `git pull && make notebooks` in a checkout; "
        "in Colab choose Runtime > Disconnect and delete runtime, and run the notebook from the top: "
        "its first cell installs the newest version with pip."
    )


# ------------------------------------------------------------- what a model was made with


def library_versions() -> dict[str, str]:
    """Return the versions of what can change a model's predictions, as far as installed."""
    names = ["scikit-learn", "numpy", "pandas", "skops", "torch", "transformers"]
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = installed.version(name)
        except installed.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Return the commit of the code that runs, None outside a checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
