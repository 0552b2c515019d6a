"""Plain TCP stays on this machine unless the user accepts the risk."""

import pytest

from cspbench.errors import InputError
from cspbench.fleet.security import check_address, listening_host, security_for
from tests.fleet.machines import own_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_plain_tcp_on_this_machine_is_fine(host):
    address = f"tcp://{host}:8786"
    assert check_address(address, insecure=False) == address
    assert listening_host(address) == "127.0.0.1"


@pytest.mark.parametrize("host", ["10.0.0.5", "boards.example.org", "0.0.0.0", "[fe80::1]"])
def test_plain_tcp_beyond_needs_leave_and_says_why(host):
    address = f"tcp://{host}:8786"
    with pytest.raises(InputError, match=r"can run any code on every board.*--insecure"):
        check_address(address, insecure=False)
    assert check_address(address, insecure=True) == address


def test_a_board_listens_on_the_address_that_its_scheduler_reaches():
    """A datagram socket that is connected to a scheduler here has that very address."""
    own = own_address()
    assert listening_host(f"tls://{own}:8786") == own
    with pytest.raises(OSError, match=r".+"):
        listening_host("tls://no-such-host.invalid:8786")


@pytest.mark.parametrize("host", ["10.0.0.5", "localhost"])
def test_tls_is_fine_anywhere(host):
    assert check_address(f"tls://{host}:8786", insecure=False)


@pytest.mark.parametrize(
    "address", ["", "8786", "host:8786", "tcp://host", "http://host:80", "tcp://:1", "tcp://h:x"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="is not the address of a Dask scheduler"):
        check_address(address, insecure=True)


def test_tls_needs_certificates_and_says_which(monkeypatch):
    import dask
    import distributed  # noqa: F401 - its defaults, which setting one key must not hide

    tls = "distributed.comm.tls."
    missing = pytest.raises(InputError, match="DASK_DISTRIBUTED__COMM__TLS__CA_FILE")
    with dask.config.set({tls + "ca-file": None}), missing:
        security_for("tls://host:8786", "client")
    unreadable = pytest.raises(InputError, match=r"/no/ca\.pem: the certificate or key cannot")
    with dask.config.set({tls + "ca-file": "/no/ca.pem", tls + "client.cert": "/no/c"}), unreadable:
        security_for("tls://host:8786", "client")
    assert security_for("tcp://127.0.0.1:1", "client") is None
