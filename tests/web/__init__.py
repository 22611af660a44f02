"""The web page in a browser, against the real server.

Each test has a server process of its own, an empty store, and the page in headless Chromium. Screenshots are in
`tests/.cache/screenshots`.

`tests/run` installs Chromium and the packages and runs all tests. To run one test after that:

    IMAGESTORE_BINARY=target/debug/imagestore \\
        tests/.cache/venv/bin/python -m unittest discover -s tests/web -t tests -k keyboard
"""

import os

# The server and the driver are on this machine, so no proxy of the machine's settings is used.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"
