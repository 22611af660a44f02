"""An issuer of JWTs for tests: an HTTPS server with its metadata and keys, and what it signs (by PyJWT)."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "store"
KEYS = "/keys"
# What a job of GitHub Actions has to ask for its JWT, and what it shows for that.
JOB = "/job?api-version=2.0"
JOB_SECRET = "secret-of-the-job"


def make_keys() -> dict[str, Any]:
    """A key for each algorithm, by the name of the algorithm, which is also the id of the key."""
    return {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "PS256": rsa.generate_private_key(public_exponent=65537, key_size=3072),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def jwk(name: str, key: Any) -> dict[str, Any]:
    """The public key as an issuer publishes it."""
    kind = {"R": RSAAlgorithm, "P": RSAAlgorithm}.get(name[0], ECAlgorithm)
    public = (OKPAlgorithm if name == "EdDSA" else kind).to_jwk(key.public_key(), as_dict=True)
    return dict(public) | {"kid": name, "alg": name, "use": "sig"}


class Issuer:
    """An issuer on a free port of this machine, which can be stopped."""

    def __init__(self, pair: tuple[Path, Path], authority: Path) -> None:
        self._authority = authority
        self.keys = make_keys()
        # The claims of the JWT that a job gets, beside those of each JWT.
        self.job: dict[str, Any] = {}
        # Beside the keys that sign, some that a server does not know or take.
        self.published = [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "HS256"},
            {"kty": "future", "kid": "new"},
            *(jwk(name, key) for name, key in self.keys.items()),
        ]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, pair))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}/tenant/v2.0"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the issuer: nobody listens on its port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def table(self, name: str, *lines: str) -> str:
        """The table of the issuer in a grants file."""
        lines = (
            f'name = "{name}"', f'url = "{self.url}"', f'audience = "{AUDIENCE}"',
            f'ca = "{self._authority}"', *lines,
        )
        return "\n".join(["[[issuer]]", *lines, ""])

    def claims(self, user: str, **others: Any) -> dict[str, Any]:
        """The claims of a user; None leaves one out."""
        claims = {
            "iss": self.url, "aud": AUDIENCE, "sub": user, "exp": int(time.time()) + 3600,
            "iat": int(time.time()),
        } | others
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, user: str, algorithm: str = "ES256", **others: Any) -> str:
        """A JWT of a user."""
        return jwt.encode(
            self.claims(user, **others), self.keys[algorithm], algorithm, {"kid": algorithm}
        )

    def unsigned(self, user: str) -> str:
        """A JWT without a signature."""
        return jwt.encode(self.claims(user), None, "none", {"kid": "RS256"})

    def signed_with_public_key(self, user: str) -> str:
        """A JWT whose HMAC has the public key as its secret, which PyJWT refuses to make."""
        secret = self.keys["RS256"].public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        header = {"alg": "HS256", "typ": "JWT", "kid": "RS256"}
        parts = [json.dumps(part).encode() for part in (header, self.claims(user))]
        signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        tag = hmac.new(secret, signed, hashlib.sha256).digest()
        return f"{signed.decode()}.{base64.urlsafe_b64encode(tag).decode().rstrip('=')}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys = issuer.url.replace("/tenant/v2.0", KEYS)
                answers: dict[str, Any] = {
                    "/tenant/v2.0/.well-known/openid-configuration": {
                        "issuer": issuer.url, "jwks_uri": keys, "response_types_supported": ["id_token"],
                    },
                    KEYS: {"keys": issuer.published},
                }
                if self.headers["Authorization"] == f"Bearer {JOB_SECRET}":
                    claims = {"aud": "imagestore"} | issuer.job
                    answers[f"{JOB}&audience=imagestore"] = {"value": issuer.sign(**claims)}
                found = self.path in answers
                body = json.dumps(answers.get(self.path)).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler


class SilentProxy:
    """A proxy that writes down to whom its clients want to connect, and refuses them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.makefile("r", encoding="utf-8").readline().strip())
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
