"""Write offline_sample.csv: 1,000 wines drawn by the lab's copula, none of them measured.

python -m lab1_wine.make_offline_sample        (needs the UCI tables)
"""

from __future__ import annotations

from pathlib import Path

from lab1_wine.features import deduplicate, load_wines
from lab1_wine.generator import Copula
from lab1_wine.schema import REAL

SEED = 20090


def main() -> None:
    """Write the file. Exits with a message where the measured wines are not there."""
    wines = load_wines()
    if (wines["source"] != REAL).any():
        raise SystemExit(
            "The sample is drawn from the measured wines: put them into a folder wine/ and set "
            "LABS_DATA to its parent."
        )
    sample = Copula.fit(deduplicate(wines)).sample(1000, SEED)
    sample.to_csv(Path(__file__).with_name("offline_sample.csv"), index=False)


if __name__ == "__main__":
    main()
