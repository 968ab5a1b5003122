"""The Wine lab on Modal: trained once, run every day, its snapshot copied to a Hub data set.

modal secret create labs HF_TOKEN=... SNAPSHOT_REPO=owner/name
modal run lab1_wine/modal_app.py::train
make deploy-modal-wine

With MONITOR_SPACES=owner/prefix in the secret, the monitor also becomes the static Space owner/prefix-wine.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import modal

CRON = "0 6 * * *"  # every day at 6:00 UTC
STORE = "/store"

app = modal.App("wine")
volume = modal.Volume.from_name("wine-store", create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .uv_pip_install(
        "scikit-learn==1.9.1",
        "scipy==1.17.1",
        "pooch==1.9.0",
        "sdmetrics==0.32.0",
        "skops==0.16.0",
        "matplotlib==3.11.2",
        "Jinja2==3.1.6",
        "pandas==2.3.3",
        "pandera==0.35.0",
        "pyarrow==25.0.1",
        "tqdm==4.70.1",
        "huggingface_hub==2.4.0",
    )
    .add_local_python_source(  # with the offline sample, for when the table cannot be fetched
        "labstore", "lab1_wine", ignore=~modal.FilePatternMatcher("**/*.py", "**/*.csv")
    )
)


@app.function(image=image, volumes={STORE: volume}, timeout=1800, cpu=2.0)
def train() -> str:
    """Fill the volume's store with the measured wines, register a model and a generator.

    Returns the model's version.
    """
    from lab1_wine import features, generator, training
    from labstore import open_store

    volume.reload()
    store = open_store(STORE)
    features.run(store)
    wines, data = training.load_training_rows(store)
    version, _ = training.register(store, wines, data)
    fits = {"Gaussian copula": generator.Copula.fit}
    generator.register(store, wines, data, fits, generator.compare(wines, fits, seeds=[0]))
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
    """Do today's wine and every missed one, and send the snapshot to the Hub. Returns the dates done."""
    from lab1_wine import monitor_page
    from lab1_wine.daily import run_daily
    from lab1_wine.schema import SNAPSHOT
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
        print("page:", static.upload(page, f"{spaces}-wine", os.environ["HF_TOKEN"]))
    return [day.isoformat() for day in done]
