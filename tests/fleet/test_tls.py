"""TLS with certificates on both sides, made as docs/fleet.md says; who has none is turned away."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.fleet.machines import eventually, machines, tls_settings

#: A certificate of another authority, and one of the fleet's that ended yesterday.
STRANGERS = r"""
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=stranger \
  -keyout stranger.key -out stranger.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=fleet -keyout expired.key -out expired.csr
openssl x509 -req -in expired.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 \
  -out expired.pem
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def test_a_fleet_over_tls_measures_and_turns_strangers_away(
    exported, certificates, suite, tmp_path
):
    tls = tls_settings(certificates, "fleet")
    with machines(tmp_path, environment=tls, scheme="tls") as fleet:
        fleet.scheduler()
        fleet.agent("x1")
        words = ("plan", str(suite), "--scheduler", fleet.address)

        def planned():
            result = fleet.cspbench(*words)
            return result if result.returncode == 0 else None

        assert "2 of 2 cases can run on x1" in eventually(planned).stdout
        subprocess.run(["sh", "-ec", STRANGERS], cwd=certificates, check=True, capture_output=True)
        strangers = {
            "another authority's": tls_settings(certificates, "stranger"),
            "an expired one": tls_settings(certificates, "expired"),
            "none": dict.fromkeys(tls, ""),
        }
        for certificate, settings in strangers.items():
            result = fleet.cspbench(*words, **settings)
            assert result.returncode == 2, (certificate, result.stdout)
            assert re.search("no Dask scheduler answers|needs a certificate", result.stderr)
            assert "Traceback" not in result.stderr
        # Plain TCP to the same port is no way around it.
        plain = ("plan", str(suite), "--scheduler", fleet.address.replace("tls:", "tcp:"))
        assert fleet.cspbench(*plain).returncode == 2
