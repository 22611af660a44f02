"""Clients that others made, and our own command line, against the real server.

Each test starts its own server process on a free port and an empty data folder, speaks to it as
somebody outside does, and stops it by SIGTERM, which must end it in time and with exit code 0.

- `test_sfctl`: the Service Fabric command line, as an operator types it.
- `test_sdk`: every image store operation of the Python package `azure-servicefabric`.
- `test_grpc`: a grpcio client that knows nothing but reflection.
- `test_proxy`: uploads that break off before haproxy and nginx, or in them.
- `test_raw`: bytes on a socket, for what no client library can be made to send.
- `test_cli`, `test_cli_copy`: our own command line, as a user or a script types it.
- `test_serve`: the server as a process: how it starts and ends, and what is there afterwards.
- `test_watch`: copies that run while others follow and cancel them, over both interfaces.
- `test_check`: the check of a store, stopped or serving.
- `test_hostile`: one caller who tries to take the server away from others.
- `test_overload`: a crowd of clients that stand still, and others that work meanwhile.
- `test_full`: a disk that is full to its reserve, or to its last byte; root mounts it.
- `test_slow`: a disk that stands still under the database, by a library that is loaded into the server.
- `test_crash`: the server is killed under load, at every marked point and while it starts, and keeps what
  it promised.

`tests/run` installs the clients of `requirements.txt` and runs everything. One test alone, after that:

    IMAGESTORE_BINARY=target/debug/imagestore \\
        tests/.cache/venv/bin/python -m unittest discover -s tests/foreign -t tests -k sample
"""

import os

# The server is on this machine, whatever proxy the machine uses.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
