#!/usr/bin/env python3
"""Reads the record of the calls that the tests have made over gRPC (tests/spec/harness/record.rs).

Every rpc of the service has answered a call with a message, another one with an error, and one that was late with
DEADLINE_EXCEEDED. What is missing is printed, and fails the run.
"""

import re
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parents[2] / "proto/imagestore/v1/image_store.proto"
SERVICE = "imagestore.v1.ImageStore"
MESSAGE, OK, DEADLINE_EXCEEDED = "message", "0", "4"


def missing(record: str) -> list[str]:
    """What no call of the record shows, a line for each rpc and answer."""
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
    """Reads the file that is named."""
    found = missing(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
