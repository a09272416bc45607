"""What `make bench` measures: comparisons, and in each the scenarios that are run in turn, round after round."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.bench import wire
from tests.bench.accept import accept_with_bare_api, accept_with_gateway
from tests.bench.batch import accept_batches, produce_bare
from tests.bench.celery_queue import drain_celery, send_through_celery
from tests.bench.contacts import import_contacts, import_new
from tests.bench.delayed import release_in_time
from tests.bench.drain import drain_bulk, drain_singles
from tests.bench.figures import Figures
from tests.bench.latency import measure_latency
from tests.bench.listing import measure_lists
from tests.bench.mailing import publish_bulk_directly, send_mailing, start_five
from tests.bench.memory import drain_large, drain_many
from tests.bench.paced import measure_overtaking
from tests.bench.post_office import drain_post_office
from tests.bench.ticks import run_tasks
from tests.bench.uploads import publish_directly, upload_batch
from tests.bench.whole_stack import send_through_stack
from tests.support.servers import RealServers


@dataclass(frozen=True)
class Bench:
    """One run: the servers all scenarios share, and whether it only checks the harness."""

    servers: RealServers
    quick: bool

    def scale(self, full: int, quick: int) -> int:
        """The size of a scenario in this run."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Scenario:
    """`about` stands in the report."""

    name: str
    about: str
    measure: Callable[[Bench], Awaitable[Figures]]


@dataclass(frozen=True)
class Comparison:
    """Scenarios whose figures are compared with one another; `rounds` each, in turn."""

    name: str
    rounds: int
    scenarios: tuple[Scenario, ...]


COMPARISONS = (
    Comparison(
        "wire",
        3,
        (
            Scenario(
                "aiosmtplib",
                "aiosmtplib sendmail, 8 connections",
                lambda bench: wire.send_with_library(bench.scale(10_000, 1_000)),
            ),
            Scenario(
                "lockstep",
                "our conversation without PIPELINING, 8 connections",
                lambda bench: wire.send_in_lockstep(bench.scale(20_000, 1_000)),
            ),
            Scenario(
                "pipelined",
                "our conversation pipelined, 8 connections",
                lambda bench: wire.send_pipelined(bench.scale(50_000, 5_000)),
            ),
        ),
    ),
    Comparison(
        "drain",
        3,
        (
            Scenario(
                "celery",
                "Celery + Redis + Django EmailMultiAlternatives, 2 worker processes, a connection a mail",
                lambda bench: drain_celery(bench.scale(4_000, 500)),
            ),
            Scenario(
                "post-office",
                "django-post_office, 2 processes of 5 threads, batches of 2,500",
                lambda bench: drain_post_office(bench.servers, bench.scale(15_000, 3_000)),
            ),
            Scenario(
                "drain-1",
                "single mails, 1 sender process",
                lambda bench: drain_singles(bench.servers, bench.scale(30_000, 4_000), 1),
            ),
            Scenario(
                "drain-2",
                "single mails, 2 sender processes",
                lambda bench: drain_singles(bench.servers, bench.scale(40_000, 4_000), 2),
            ),
            Scenario(
                "bulk-1",
                "bulk events of 100 mails, 1 sender process",
                lambda bench: drain_bulk(bench.servers, bench.scale(100_000, 10_000), 1),
            ),
            Scenario(
                "bulk-2",
                "bulk events of 100 mails, 2 sender processes",
                lambda bench: drain_bulk(bench.servers, bench.scale(100_000, 10_000), 2),
            ),
        ),
    ),
    Comparison(
        "accept",
        5,
        (
            Scenario(
                "bare-http",
                "bare FastAPI + pydantic + aiokafka acks=all, one process, 64 connections",
                lambda bench: accept_with_bare_api(bench.servers, bench.scale(10, 2)),
            ),
            Scenario(
                "accept",
                "POST /v1/emails of the gateway, one process, 64 connections",
                lambda bench: accept_with_gateway(bench.servers, bench.scale(10, 2)),
            ),
        ),
    ),
    Comparison(
        "batches",
        5,
        (
            Scenario(
                "bare-producer",
                "bare aiokafka acks=all, idempotent: four loops of 1,000 of the same events, one process",
                lambda bench: produce_bare(bench.servers, bench.scale(10, 4)),
            ),
            Scenario(
                "batch",
                "POST /v1/emails/batch of the gateway, 1,000 mails a request, one process, 4 connections",
                lambda bench: accept_batches(bench.servers, bench.scale(10, 4)),
            ),
        ),
    ),
    Comparison(
        "end-to-end",
        3,
        (
            Scenario(
                "celery-enqueued",
                "Celery: first delay() to last mail at the relay, workers running",
                lambda bench: send_through_celery(bench.scale(4_000, 500)),
            ),
            Scenario(
                "whole-stack",
                "POST /v1/emails to last mail at the relay, the whole stack running, one process of each kind",
                lambda bench: send_through_stack(bench.servers, bench.scale(15, 2)),
            ),
        ),
    ),
    Comparison(
        "uploads",
        3,
        (
            Scenario(
                "celery-queue",
                "Celery: first delay() to last mail at the relay, workers running",
                lambda bench: send_through_celery(bench.scale(4_000, 500)),
            ),
            Scenario(
                "direct",
                "mails of their own published to the topic, to the last status, the whole stack running",
                lambda bench: publish_directly(bench.servers, bench.scale(100_000, 3_000)),
            ),
            Scenario(
                "upload",
                "POST /v1/batches of the same mails, to the last status, the whole stack running",
                lambda bench: upload_batch(bench.servers, bench.scale(100_000, 3_000), shared=False),
            ),
            Scenario(
                "upload-shared",
                "POST /v1/batches of mails that share one content, to the last status, the whole stack running",
                lambda bench: upload_batch(bench.servers, bench.scale(100_000, 10_000), shared=True),
            ),
        ),
    ),
    Comparison(
        "mailings",
        3,
        (
            Scenario(
                "celery-queued",
                "Celery: first delay() to last mail at the relay, workers running",
                lambda bench: send_through_celery(bench.scale(4_000, 500)),
            ),
            Scenario(
                "direct-bulk",
                "bulk events of 100 mails published to the topic, to the last status, the whole stack running",
                lambda bench: publish_bulk_directly(bench.servers, bench.scale(100_000, 5_000)),
            ),
            Scenario(
                "mailing",
                "a mailing of the same mails to contacts, from its start until it is finished, the whole stack running",
                lambda bench: send_mailing(bench.servers, bench.scale(100_000, 5_000)),
            ),
        ),
    ),
    Comparison(
        "latency",
        2,
        (
            Scenario(
                "latency",
                "100 posts a second to the whole stack, each until it is at the relay",
                lambda bench: measure_latency(bench.servers, 100, bench.scale(30, 3)),
            ),
            Scenario(
                "overtaking",
                "10 posts a second while 100,000 bulk mails of five batches are on their way",
                lambda bench: measure_overtaking(bench.servers, bench.scale(100_000, 4_000), 10, bench.scale(30, 3)),
            ),
            Scenario(
                "overtaking-mailings",
                "10 posts a second while five mailings to 20,000 contacts each run",
                lambda bench: measure_overtaking(
                    bench.servers, bench.scale(100_000, 5_000), 10, bench.scale(30, 3), begin=start_five
                ),
            ),
        ),
    ),
    Comparison(
        "tasks",
        3,
        (
            Scenario(
                "ticks",
                "tasks that all fall due in one moment, told on schedule.tick and run; one worker, one job runner",
                lambda bench: run_tasks(bench.servers, bench.scale(10_000, 500)),
            ),
        ),
    ),
    Comparison(
        "delayed",
        2,
        (
            Scenario(
                "delayed",
                "delayed mails falling due within a minute, evenly, 1 scheduler: from due to the record on Kafka",
                lambda bench: release_in_time(bench.servers, bench.scale(100_000, 3_000), bench.scale(60, 3)),
            ),
        ),
    ),
    Comparison(
        "listing",
        1,
        (
            Scenario(
                "listing",
                "GET /v1/emails of every filter, and /v1/stats, over 5 million mails of 90 days; the slowest kind's",
                lambda bench: measure_lists(bench.servers, bench.scale(5_000_000, 20_000), bench.scale(400, 20)),
            ),
        ),
    ),
    Comparison(
        "contacts",
        1,
        (
            Scenario(
                "import",
                "a file of a million contacts, every one new",
                lambda bench: import_new(bench.servers, bench.scale(1_000_000, 20_000)),
            ),
            Scenario(
                "import-again",
                "the same, killed half way, sent again, and once more when nothing is new; exported",
                lambda bench: import_contacts(bench.servers, bench.scale(1_000_000, 20_000)),
            ),
        ),
    ),
    Comparison(
        "memory",
        1,
        (
            Scenario(
                "memory-large",
                "a sender while 20,000 queued mails of 200 kB are drained",
                lambda bench: drain_large(bench.servers, bench.scale(20_000, 300)),
            ),
            Scenario(
                "memory-flat",
                "a sender over 200,000 small mails, looked at every 20,000",
                lambda bench: drain_many(bench.servers, bench.scale(200_000, 5_000)),
            ),
        ),
    ),
)


def select(only: list[str]) -> list[Comparison]:
    """All comparisons, or of them what is named: comparisons or scenarios. Raises ValueError with what there is."""
    names = {comparison.name for comparison in COMPARISONS}
    names |= {scenario.name for comparison in COMPARISONS for scenario in comparison.scenarios}
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    chosen = []
    for comparison in COMPARISONS:
        scenarios = tuple(
            each for each in comparison.scenarios if not only or comparison.name in only or each.name in only
        )
        if scenarios:
            chosen.append(Comparison(comparison.name, comparison.rounds, scenarios))
    return chosen
