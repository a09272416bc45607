"""The APIs do what their OpenAPI document says, whatever they are asked (schemathesis; at random in tests/chaos)."""

from pathlib import Path

import pytest

from tests.support.api_contract import run_schemathesis, serve_all, summarise
from tests.support.servers import RealServers


@pytest.mark.timeout(300)
def test_no_request_meets_an_undocumented_answer_or_a_fault(real_servers: RealServers, tmp_path: Path) -> None:
    with serve_all(real_servers) as (url, key):
        run = run_schemathesis(url, key, tmp_path, "--phases", "examples,coverage", "--seed", "6", timeout_s=280)
    assert run.returncode == 0, summarise(run)
    assert "Tested:" in run.stdout
