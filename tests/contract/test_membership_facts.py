"""What shared/membership.py relies on in aiokafka's group coordinator; an upgrade that changes it fails here."""

import inspect

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetCommitRequest


def test_the_heartbeat_is_one_call_on_the_instance_that_says_whether_it_succeeded() -> None:
    routine = inspect.getsource(GroupCoordinator._heartbeat_routine)
    assert "success = await self._do_heartbeat()" in routine
    assert "return True" in inspect.getsource(GroupCoordinator._do_heartbeat)


def test_a_join_is_marked_from_its_preparation_to_its_success() -> None:
    join = inspect.getsource(GroupCoordinator.ensure_active_group)
    assert join.index("self._performed_join_prepare = True") < join.index("self._performed_join_prepare = False")
    assert "self._performed_join_prepare = False" in inspect.getsource(GroupCoordinator.__init__)


def test_a_lost_membership_shows_as_generation_minus_one() -> None:
    assert OffsetCommitRequest.DEFAULT_GENERATION_ID == -1
    assert "DEFAULT_GENERATION_ID" in inspect.getsource(GroupCoordinator.reset_generation)
