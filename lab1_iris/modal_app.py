"""The Iris lab on Modal: trained once, run every day, its snapshot copied to a Hub data set.

modal secret create labs HF_TOKEN=... SNAPSHOT_REPO=owner/name
modal run lab1_iris/modal_app.py::train
make deploy-modal-iris

With MONITOR_SPACES=owner/prefix in the secret, the monitor also becomes the static Space owner/prefix-iris.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import modal

CRON = "0 6 * * *"  # every day at 6:00 UTC
STORE = "/store"

app = modal.App("iris")
volume = modal.Volume.from_name("iris-store", create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .uv_pip_install(
        "scikit-learn==1.9.1",
        "skops==0.16.0",
        "matplotlib==3.11.2",
        "Jinja2==3.1.6",
        "pandas==2.3.3",
        "pandera==0.35.0",
        "pyarrow==25.0.1",
        "tqdm==4.70.1",
        "huggingface_hub==2.4.0",
    )
    .add_local_python_source("labstore", "lab1_iris")
)


@app.function(image=image, volumes={STORE: volume}, timeout=600)
def train() -> str:
    """Fill the volume's store with the real flowers and register a model. Returns its version."""
    from lab1_iris import features, training
    from labstore import open_store

    volume.reload()
    store = open_store(STORE)
    features.run(store)
    version, _ = training.run(store)
    volume.commit()
    return version.version


@app.function(
    image=image,
    schedule=modal.Cron(CRON, timezone="UTC"),
    secrets=[modal.Secret.from_name("labs", required_keys=["HF_TOKEN", "SNAPSHOT_REPO"])],
    volumes={STORE: volume},
    retries=modal.Retries(max_retries=3, initial_delay=60.0, backoff_coefficient=1.0),
    timeout=600,
    max_containers=1,
)
def daily() -> list[str]:
    """Do today's flower and every missed one, and send the snapshot to the Hub. Returns the dates done."""
    from lab1_iris import monitor_page
    from lab1_iris.daily import run_daily
    from lab1_iris.schema import SNAPSHOT
    from labstore import open_store
    from labstore.monitor import snapshot, static

    volume.reload()
    store = open_store(STORE)
    try:
        done = run_daily(store, datetime.now(UTC).date())
    finally:  # keep what was done before a failure; the ledger lists it
        volume.commit()
    address = snapshot.upload(store, SNAPSHOT, os.environ["SNAPSHOT_REPO"], os.environ["HF_TOKEN"])
    print(f"done: {', '.join(map(str, done)) or 'nothing new'}; snapshot: {address}")
    if spaces := os.environ.get("MONITOR_SPACES"):
        page = monitor_page.write_static(snapshot.read(store, SNAPSHOT), Path("/tmp/page"))
        print("page:", static.upload(page, f"{spaces}-iris", os.environ["HF_TOKEN"]))
    return [day.isoformat() for day in done]
