"""Prints the oil pressure of a running gateway: python3 oil_watch.py [HOST [PORT]]."""

from __future__ import annotations

import sys
import threading

from fixgw.netfix import Client, Sample


def main(host: str = "127.0.0.1", port: str = "3490") -> None:
    with Client(host, int(port), timeout=5.0) as client:
        units = client.report("OILP1").units
        lowest = client.read("OILP1.lowAlarm").value  # None if the installation has not set it

        def show(sample: Sample) -> None:
            if sample.fail:
                print("no oil pressure: the sensor or its cable has failed", flush=True)
            elif not sample.good:
                print(f"{sample.value} {units}, but old or doubtful: do not trust it", flush=True)
            elif lowest is not None and float(sample.value or 0.0) < float(lowest):
                print(f"{sample.value} {units}: LOW", flush=True)
            else:
                print(f"{sample.value} {units}", flush=True)

        client.subscribe("OILP1", show)  # called on the client's own thread at each change
        show(client.read("OILP1"))
        threading.Event().wait()  # Ctrl-C ends it


if __name__ == "__main__":
    main(*sys.argv[1:])
