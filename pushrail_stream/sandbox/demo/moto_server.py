"""The stand-in for AWS as a program: moto on a free port of 127.0.0.1, for as long as standard input stays open.

Run as ``python -m``, it prints ``{"url": ...}`` once it listens. It ends when whoever started it closes its standard
input, so that it outlives nobody, not even a killed parent.
"""

from __future__ import annotations

import json
import sys

from moto.server import ThreadedMotoServer

from pushrail_stream.sandbox.demo.moto_corrections import correct_moto


def main() -> None:
    """Serve until standard input ends."""
    correct_moto()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
