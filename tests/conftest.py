"""What every test gets: no network beyond this machine, and a small index for those that ask for one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from knowledge.settings import Settings

_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave this machine, except in tests marked `index`."""
    if request.node.get_closest_marker("index") is None:
        connect = socket.socket.connect

        def guarded(self: socket.socket, address: object) -> None:
            host = address[0] if isinstance(address, tuple) else ""
            if self.family in (socket.AF_INET, socket.AF_INET6) and not str(host).startswith(_LOOPBACK):
                pytest.fail(f"a test tried to reach {host}; only loopback is allowed")
            connect(self, address)  # type: ignore[arg-type]

        monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home holds an index of a release in miniature; built once for each worker, so never write to it."""
    from tests.small_release import build

    return build(tmp_path_factory.mktemp("small"))
