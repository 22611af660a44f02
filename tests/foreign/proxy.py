"""Real proxies in front of the real server: haproxy, and nginx with `grpc_pass`. For REST and the web page
they keep `Host`, replace it, or serve the store below a path prefix (nginx).
"""

import os
import re
import socket
import subprocess
from pathlib import Path

# Each closes a call whose client or server is silent for a second. The test makes the listening socket, so
# that a client can connect at once.
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1s
    timeout server 1s
frontend clients
    bind fd@{number} proto h2
    default_backend store
backend store
    server store {store} proto h2
"""

# The settings without the `server` block.
NGINX_SETTINGS = """
daemon off;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    %s
}}
"""

NGINX = NGINX_SETTINGS % """
    server {{
        listen {address} http2;
        client_max_body_size 0;
        client_body_timeout 1s;
        location / {{
            grpc_pass grpc://{store};
            grpc_read_timeout 1s;
            grpc_send_timeout 1s;
        }}
    }}
"""

# Debian installs both in a folder that is only in the PATH of root.
PATH = f"{os.environ['PATH']}:/usr/sbin"

# The host name of the store for proxies that replace `Host`.
INNER_NAME = "store.internal"

HAPROXY_PAGE = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend clients
    bind fd@{number}
    default_backend store
backend store
    %s
    server store {store}
"""

NGINX_PAGE = NGINX_SETTINGS % """
    upstream store.internal {{ server {store}; }}
    server {{
        listen {address};
        client_max_body_size 0;
        location / {{
            proxy_http_version 1.1;
            proxy_pass http://store.internal;
            %s
        }}
    }}
"""

NGINX_PREFIX = NGINX_SETTINGS % """
    server {{
        listen {address};
        location /store/ {{
            proxy_pass http://{store}/;
            proxy_set_header Host $http_host;
        }}
    }}
"""

README = Path(__file__).resolve().parents[2] / "README.md"
# The address from which the proxy of the README connects to the store in the tests: one that no client has.
README_SOURCE = "127.0.0.2"

SETTINGS = {"haproxy": HAPROXY, "nginx": NGINX}

PREFIX_SETTINGS = {"nginx with a prefix": NGINX_PREFIX}

# The settings for REST and the web page. Omitted settings have the defaults of each program.
PAGE_SETTINGS = {
    "haproxy that keeps Host": HAPROXY_PAGE % "",
    "haproxy that puts another Host": HAPROXY_PAGE % f"http-request set-header Host {INNER_NAME}",
    "haproxy that tells the Host": HAPROXY_PAGE
    % f"http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n"
    f"    http-request set-header Host {INNER_NAME}",
    "nginx that keeps Host": NGINX_PAGE % "proxy_set_header Host $http_host;",
    "nginx that puts another Host": NGINX_PAGE % "",
    "nginx that tells the Host": NGINX_PAGE % "proxy_set_header X-Forwarded-Host $http_host;",
}


def readme_settings(certificate: Path, key: Path, *, tls: bool = True) -> str:
    """The settings of nginx in the README, for the folder of a test, with TLS to the clients or without it."""
    text = README.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for printed, meant in [
        ("listen 443 ssl http2;", "listen {address} ssl http2;" if tls else "listen {address};"),
        ("/etc/nginx/cert.pem", str(certificate)),
        ("/etc/nginx/key.pem", str(key)),
        ("127.0.0.1:19080", "{store}"),
    ]:
        if printed not in block:
            raise AssertionError(f"{printed} is not in the settings of the README")
        block = block.replace(printed, meant)
    block = re.sub(r"\{(?!address|store)", "{{", block)
    block = re.sub(r"(?<!address)(?<!store)\}", "}}", block)
    source = f"proxy_bind {README_SOURCE}; grpc_bind {README_SOURCE};"
    return NGINX_SETTINGS % f"{source}\n{block}"


class Proxy:
    """A running proxy in front of one server; `address` is the proxy's own address.

    The first word of the name is the program. The name also chooses the settings, unless they are given.
    """

    def __init__(self, name: str, folder: Path, store: str, settings: str | None = None) -> None:
        folder.mkdir()
        self._log = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("wb") as log:
            self.address = "{}:{}".format(*listener.getsockname())
            number = listener.fileno()
            settings = settings or (SETTINGS | PREFIX_SETTINGS | PAGE_SETTINGS)[name]
            file = folder / "settings"
            file.write_text(
                settings.format(address=self.address, folder=folder, number=number, store=store)
            )
            command = {
                "haproxy": ["haproxy", "-db", "-f", str(file)],
                "nginx": ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(file)],
            }[name.split()[0]]
            self._process = subprocess.Popen(
                command,
                # nginx takes over the listening sockets in this variable.
                env=os.environ | {"NGINX": f"{number};", "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[number],
            )

    def stop(self) -> str:
        """Ends the process and returns its log."""
        self._process.terminate()
        self._process.wait()
        return self._log.read_text()
