"""What a model's file holds, read without loading it."""

import json
import re
import zipfile
from pathlib import Path


def functions_in(path: Path) -> list[str]:
    """The functions and methods in a skops file, whose names change with the library's version."""
    schema = zipfile.ZipFile(path).read("schema.json").decode()
    found = []

    def look(node: dict) -> dict:
        if re.search("Function|Method|Partial|Operator", str(node.get("__loader__"))):
            found.append(f"{node.get('__module__')}.{node.get('__class__')}")
        return node

    json.loads(schema, object_hook=look)
    return found
