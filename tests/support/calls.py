#!/usr/bin/env python3
"""Checks the record of the gRPC calls of the tests, which tests/spec/harness/record.rs writes.

For every rpc of the service, the record must have a response message, DEADLINE_EXCEEDED, and another error status.
Otherwise the missing ones are printed, and the exit code is 1.
"""

import re
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parents[2] / "proto/imagestore/v1/image_store.proto"
SERVICE = "imagestore.v1.ImageStore"
MESSAGE, OK, DEADLINE_EXCEEDED = "message", "0", "4"


def missing(record: str) -> list[str]:
    """Returns one line for each rpc and each of its responses that the record lacks."""
    rpcs = re.findall(r"^  rpc (\w+)\(", PROTO.read_text(encoding="utf-8"), re.MULTILINE)
    if not rpcs:
        return [f"{PROTO} has no rpc"]
    calls = {tuple(line.split(" ", 1)) for line in record.splitlines()}
    found = []
    for rpc in rpcs:
        answers = {what for path, what in calls if path == f"/{SERVICE}/{rpc}"}
        wanted = {"a message": {MESSAGE}, "DEADLINE_EXCEEDED": {DEADLINE_EXCEEDED}}
        wanted["another error"] = answers - {MESSAGE, OK, DEADLINE_EXCEEDED}
        unseen = [name for name, any_of in wanted.items() if not any_of & answers]
        found += [f"no test has seen {rpc} answer with {name}" for name in unseen]
    return found


def main() -> None:
    """Checks the record whose path is the first argument."""
    found = missing(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
