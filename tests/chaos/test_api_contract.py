"""Many more requests made from the OpenAPI document than `make test` has time for, in sequences too."""

from pathlib import Path

import pytest

from tests.support.api_contract import run_schemathesis, serve_all, summarise
from tests.support.servers import RealServers


@pytest.mark.timeout(1500)
def test_no_request_of_many_meets_an_undocumented_answer_or_a_fault(real_servers: RealServers, tmp_path: Path) -> None:
    with serve_all(real_servers) as (url, key):
        run = run_schemathesis(url, key, tmp_path, "-n", "60", timeout_s=1400)
    assert run.returncode == 0, summarise(run)
    assert "Stateful" in run.stdout
