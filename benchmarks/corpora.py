"""Size, time and memory of the Whisper feature stage against the original's recipe.

    python benchmarks/corpora.py [--quick]

Clips are like Common Voice's: MP3, 48 kHz mono, 64 kbit/s, about 5 s, here espeak-ng's with some
noise. There are 200 different ones. The releases of a thousand and ten thousand clips are hard
links to them, so all recipes read their files from the page cache.

The original's recipe is `datasets.map` with 2 processes: decode, 30 s log-mel, token ids, written
as Arrow. For lack of torchcodec here, all recipes use this project's decoder. With the recipe
unchanged (`seconds_ratio`, measured on a quarter of the clips), the torch threads of its two
processes oversubscribe the cores. With one torch thread per process (`..._one_thread`) it is
faster; the original did not set that, but a fair comparison has to include it. The recipes take
turns, three times; the figures are medians.

`ms` per clip includes the time to start processes. Runs on a tenth of the clips separate
`startup_s` from `marginal_ms`, the cost of each further clip.
"""

from __future__ import annotations

import argparse

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the clips, one round, results not kept"
    )
    quick = parser.parse_args().quick
    # not at the top: each spawned worker imports this file again, which a notebook's does not do
    from _corpora import main

    main(quick)
