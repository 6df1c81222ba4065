"""Where the server may listen, and what it says when it cannot."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.entrypoints.listener import check_listen, is_loopback, listen_tcp, listen_unix, port_owner


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_may_be_listened_on_without_authentication(host: str) -> None:
    assert is_loopback(host)
    check_listen(host, authenticated=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org", "127.1"])
def test_elsewhere_only_with_authentication(host: str) -> None:
    with pytest.raises(PlatformError, match="without authentication") as raised:
        check_listen(host, authenticated=False)
    assert raised.value.code is ErrorCode.FAILED_PRECONDITION
    check_listen(host, authenticated=True)


def test_a_taken_port_is_an_error_that_names_who_has_it() -> None:
    with listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PlatformError) as raised:
            listen_tcp("127.0.0.1", port)
        assert port_owner(port).startswith(f"PID {os.getpid()} (")
    assert raised.value.code is ErrorCode.CONFLICT
    assert f"127.0.0.1:{port} is taken by PID {os.getpid()} (" in raised.value.message
    listen_tcp("127.0.0.1", port).close()


def test_an_address_of_another_machine_is_an_error_in_words() -> None:
    with pytest.raises(PlatformError, match=r"cannot listen on 192\.0\.2\.1:31999"):
        listen_tcp("192.0.2.1", 31999)


def test_a_unix_socket_is_private_and_replaces_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    listen_unix(path).close()
    assert path.exists()
    with listen_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_unix_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    with listen_unix(path), pytest.raises(PlatformError, match="another server answers"):
        listen_unix(path)
    assert path.exists()


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    path.write_text("precious")
    with pytest.raises(PlatformError, match="is no socket"):
        listen_unix(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="at most 107 bytes"):
        listen_unix(tmp_path / ("x" * 107))
