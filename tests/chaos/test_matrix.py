"""The kill matrix: every fault at every stage, on every way a mail can come (MILENA_CHAOS_CELLS: only some cells)."""

from functools import partial

import pytest

from tests.chaos.cells import Fault
from tests.chaos.conftest import Run
from tests.chaos.matrix import MatrixSettings, run_matrix
from tests.support.servers import RealServers


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", list(Fault))
async def test_every_mail_has_its_end_whatever_moment_the_fault_meets(
    run: Run, real_servers: RealServers, fault: Fault
) -> None:
    some = "_some" if MatrixSettings().chaos_cells else ""  # only a whole matrix gets onto the page
    await run(f"matrix_{fault}{some}", real_servers, partial(run_matrix, fault=fault))
