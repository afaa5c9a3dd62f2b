"""Images from remote tars: shared blocks against one ranged request an image.

Give it tars on the store to be measured; access comes from the environment.

    AWS_ENDPOINT_URL=… python -m bench.tar_reads --input s3://bucket/tars [--threads 16]
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.readers import open_reader
from pipeline.readers import webdataset as tars
from schemas.config.job import InputConfig


def main() -> None:
    """Prints images/s and CPU time of both ways, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args()
    start = time.perf_counter()
    records = list(open_reader(InputConfig(uri=options.input, format="webdataset")).list())
    print(f"listed {len(records)} images in {time.perf_counter() - start:.2f} s")
    wall, cpu = {}, {}
    for name, block in (("requests", 1), ("blocks", tars._BLOCK)):
        tars._BLOCK = block  # a member at least as long as a block is asked for by itself
        reader = open_reader(InputConfig(uri=options.input, format="webdataset"))
        start, start_cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(options.threads) as pool:
            size = sum(map(len, pool.map(reader.read, records)))
        wall[name] = time.perf_counter() - start
        cpu[name] = time.process_time() - start_cpu
        print(
            f"{name:>9}: {len(records) / wall[name]:7.0f} images/s, {size / wall[name] / 1e6:6.0f}"
            f" MB/s, {cpu[name] / len(records) * 1e3:.2f} ms of CPU an image"
        )
    print(
        f"requests / blocks: {wall['requests'] / wall['blocks']:.1f}x the time,"
        f" {cpu['requests'] / cpu['blocks']:.1f}x the CPU"
    )


if __name__ == "__main__":
    main()
