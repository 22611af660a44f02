"""Clients of other vendors, and the command line, against the real server.

Each test starts a server process of its own on a free port and an empty data folder, uses the server as an
outside client does, and stops it by SIGTERM. The server must end in time and with exit code 0.

- `test_sfctl`: the Service Fabric command line, as an operator types it.
- `test_sdk`: every image store operation of the Python package `azure-servicefabric`.
- `test_grpc`: a grpcio client that knows only what reflection returns.
- `test_curl`: curl, for uploads with misleading headers and for `100-continue`.
- `test_proxy`, `test_prefix`: haproxy and nginx in front of the server; uploads that break off there.
- `test_raw`: bytes on a socket, for requests that no client library sends.
- `test_cli*`: the command line, as a user or a script types it.
- `test_readme`: the commands of the README.
- `test_jwt`: clients that sign in at an issuer of JWTs, and `sfctl --aad`.
- `test_serve`: the server as a process: its start, its end, and the state after it.
- `test_log`: the log lines of failed calls.
- `test_watch`, `test_deadlines`: copies that are watched, cancelled or given up while they run.
- `test_backup`, `test_check`: backups and checks of a store, stopped or serving.
- `test_migrate`: stores that are copied between databases and blob stores.
- `test_hostile`: one client that attacks the server while others work.
- `test_overload`: many stalled clients, while others work.
- `test_memory`, `test_requests`: the memory and work that single requests cost the server.
- `test_full`: a disk that is full up to the reserve, or up to the last byte; mounted by root.
- `test_slow`: a disk that blocks writes to the database, by a library that is loaded into the server.
- `test_crash`: a server that is killed under load, at every marked point and while it starts, and that loses
  no acknowledged write.

`tests/run` installs the clients of `requirements.txt` and runs all tests. To run one test after that:

    IMAGESTORE_BINARY=target/debug/imagestore \\
        tests/.cache/venv/bin/python -m unittest discover -s tests/foreign -t tests -k sample
"""

import os

# The server is on this machine, so no proxy of the machine's settings is used.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
