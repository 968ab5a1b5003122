"""Size, time and memory of the Whisper feature stage against the original's recipe.

    python benchmarks/corpora.py [--quick]

Clips are like Common Voice's: MP3, 48 kHz mono, 64 kbit/s, about 5 s, here of espeak-ng with some
noise. There are 200 distinct ones; the releases of a thousand and ten thousand clips are hard
links to them, so their files are read from the page cache, by all recipes alike.

The original's recipe is `datasets.map` with 2 processes: decode, 30 s log-mel, token ids, written
as Arrow. All recipes use this project's decoder, here for want of torchcodec. As the recipe comes
(`seconds_ratio`, measured on a quarter of the clips), the torch threads of its two processes
oversubscribe the cores; with one torch thread a process it is faster (`..._one_thread`), which
the original did not set but a fair comparison has to tell. The recipes take turns, three times; the
figures are medians.

`ms` a clip has the time to start processes in it. Runs on a tenth of the clips tell `startup_s`
and `marginal_ms`, what each further clip costs.
"""

from __future__ import annotations

import argparse

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it, once, not kept")
    quick = parser.parse_args().quick
    # here: each worker process that is spawned imports this file again, and a notebook's does not
    from _corpora import main

    main(quick)
