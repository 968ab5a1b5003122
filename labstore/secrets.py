"""Secrets come from the environment, or from Colab's own store of secrets."""

from __future__ import annotations

import os


def secret(name: str) -> str | None:
    """Return a secret from the environment, or from Colab's Secrets, None where it is not set.

    A secret of Colab is copied to the environment, where libraries look for it.
    """
    if not os.environ.get(name):
        try:
            from google.colab import userdata

            os.environ[name] = userdata.get(name)
        except Exception:  # not on Colab, no such secret, or no access to it: it is not set
            return None
    return os.environ[name]
