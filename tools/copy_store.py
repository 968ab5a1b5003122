"""Copy a whole store to another, and prove that everything arrived: see labstore/copying.py.

    python -m tools.copy_store store hopsworks:labs
    python -m tools.copy_store hopsworks:labs drive:labs

Run it again after an interruption: what the target has already is checked, not copied again.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from labstore import FeatureGroup, StoreError, open_store
from labstore.copying import copy
from tools.imports import ROOT


def declared_groups() -> list[FeatureGroup]:
    """Return the feature groups of every lab's schema.py."""
    labs = sorted(path.parent.name for path in ROOT.glob("lab*/schema.py"))
    schemas = [importlib.import_module(f"{lab}.schema") for lab in labs]
    return [g for schema in schemas for g in vars(schema).values() if isinstance(g, FeatureGroup)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 1 where a store cannot be opened or copied."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="a store's address: FOLDER, drive:FOLDER, hopsworks:PROJECT")
    parser.add_argument("target", help="another store's address")
    given = parser.parse_args(arguments)
    try:
        source, target = open_store(given.source), open_store(given.target)
        if repr(source) == repr(target):
            raise StoreError(f"{given.source} and {given.target} are the same store.")
        done = copy(source, target, declared_groups())
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    if not done:
        print(f"{given.source} is empty: there is nothing to copy.", file=sys.stderr)
        return 1
    rows = sum(copied.amount for copied in done if copied.unit == "rows")
    size = sum(copied.amount for copied in done if copied.unit == "bytes")
    versions = sum(copied.unit == "bytes" for copied in done)
    print(
        f"All of {given.source} is in {given.target}, equal by row count and checksum: {rows:,} "
        f"rows, {versions:,} versions of files and models, {size:,} bytes."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
