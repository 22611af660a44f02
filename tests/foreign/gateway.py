"""The real gateway as a process of a test."""

from pathlib import Path

from .server import ANY_PORT, Server


class Gateway(Server):
    """A gateway process on a free port of this machine, before some servers."""

    def __init__(self, *backends: str, options: tuple[str, ...] = (), listen: str = ANY_PORT) -> None:
        self._backends = backends
        super().__init__(Path(), *options, listen=listen)

    def arguments(self, listen: str) -> list[str]:
        """The arguments of the program before the options of the test."""
        flags = [flag for backend in self._backends for flag in ("--backend", backend)]
        drain = [] if "--drain-time" in self._options else ["--drain-time", "0"]
        return ["gateway", "--listen", listen, *drain, *flags]
