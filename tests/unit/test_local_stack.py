"""What a stack is made of: ports, processes, environment, stack.json."""

import io
import json
from pathlib import Path

import pytest

from deploy.local.errors import StackError
from deploy.local.lock import find_holder, hold
from deploy.local.output import Output
from deploy.local.paths import DataPaths
from deploy.local.ports import Ports
from deploy.local.processes import build_environment, build_services, list_ports, list_recorded
from deploy.local.record import ProcessRecord, StackRecord, read_record, write_record
from deploy.local.settings import StackSettings
from deploy.local.welcome import describe_event, describe_problem
from services.scheduler.runs.built_in import EmailArgs


def read_settings(**values: object) -> StackSettings:
    return StackSettings(**values)  # type: ignore[arg-type]


def test_default_ports_are_the_documented_ones() -> None:
    ports = dict(list_ports(read_settings(senders=2), Ports.from_offset(0)))
    assert ports == {
        "HTTP": 8000,
        "SMTP ingest": 2587,
        "gateway-smtp": 8004,
        "caught mail, SMTP": 2525,
        "caught mail, page": 8025,
        "Kafka": 19092,
        "Kafka's controller": 19093,
        "gateway-worker": 8001,
        "scheduler-worker": 8002,
        "scheduler-jobs": 8005,
        "callback-worker": 8003,
        "sender-0": 8010,
        "sender-1": 8011,
    }


def test_one_offset_moves_every_port() -> None:
    settings = read_settings(senders=3)
    here = list_ports(settings, Ports.from_offset(0))
    there = list_ports(settings, Ports.from_offset(100))
    assert [port + 100 for _, port in here] == [port for _, port in there]


def test_no_two_processes_share_a_port_however_many_senders() -> None:
    ports = [port for _, port in list_ports(read_settings(senders=64), Ports.from_offset(0))]
    assert len(set(ports)) == len(ports)


def test_servers_of_ones_own_need_no_ports_here() -> None:
    settings = read_settings(kafka_bootstrap_servers="kafka:9092", smtp_host="relay")
    purposes = [purpose for purpose, _ in list_ports(settings, Ports.from_offset(0))]
    assert not [purpose for purpose in purposes if "Kafka" in purpose or "mail" in purpose]


def test_no_mail_is_caught_where_relays_of_ones_own_are_named() -> None:
    relays = read_settings(relays='[{"name": "main", "host": "relay.example.com"}]')
    assert not any("mail" in purpose for purpose, _ in list_ports(relays, Ports.from_offset(0)))
    assert [read_settings().catches_mail, relays.catches_mail] == [True, False]


def test_each_process_has_its_slot_and_its_health_port() -> None:
    commands = build_services(read_settings(senders=2), Ports.from_offset(0), {"SHARED": "1"})
    by_name = {command.name: command for command in commands}
    assert [name for command in commands for name in list_recorded(command)] == [
        "gateway-api",
        "scheduler-api",
        "callback-api",
        "sender-api",
        "gateway-smtp",
        "gateway-worker",
        "scheduler-worker",
        "scheduler-jobs",
        "callback-worker",
        "sender-0",
        "sender-1",
    ]
    sender = by_name["sender-1"].environment
    assert (sender["MILENA_SLOT"], sender["MILENA_HEALTH_PORT"], sender["SHARED"]) == ("1", "8011", "1")


def test_environment_of_the_user_decides_about_callbacks_but_not_about_addresses() -> None:
    inherited = {"MILENA_CALLBACK_ALLOWED_NETWORKS": "192.0.2.0/24", "MILENA_HTTP_PORT": "1", "PATH": "/bin"}
    built = build_environment(inherited, {"MILENA_SMTP_PORT": "2525"}, Ports.from_offset(5), "secret")
    assert built["MILENA_CALLBACK_ALLOWED_NETWORKS"] == "192.0.2.0/24"
    assert built["MILENA_BASE_URL"] == "http://127.0.0.1:8005"
    assert (built["MILENA_HTTP_PORT"], built["MILENA_SMTP_PORT"], built["PATH"]) == ("8005", "2525", "/bin")
    assert "127.0.0.0/8" in build_environment({}, {}, Ports.from_offset(0), "s")["MILENA_CALLBACK_ALLOWED_NETWORKS"]


def test_a_task_without_a_mail_of_its_own_sends_one_that_is_caught_here() -> None:
    built = build_environment({}, {}, Ports.from_offset(0), "s", from_address="me@example.com")
    defaults = json.loads(built["MILENA_JOB_DEFAULTS"])
    assert EmailArgs.model_validate(defaults["send_email"]).from_.address == "me@example.com"
    own = build_environment({"MILENA_JOB_DEFAULTS": "{}"}, {}, Ports.from_offset(0), "s")
    assert own["MILENA_JOB_DEFAULTS"] == "{}"


def test_stack_json_is_private_and_has_every_documented_field(tmp_path: Path) -> None:
    record = StackRecord(
        base_url="http://127.0.0.1:8000",
        api_key="mk_1",
        webhook_secret="whsec_1",
        kafka="127.0.0.1:19092",
        database_url="postgresql://postgres@/milena?host=/x",
        from_address="no-reply@example.com",
        smtp_host="127.0.0.1",
        smtp_port=2525,
        mail_url="http://127.0.0.1:8025/",
        mail_dir="/x/mail",
        smtp_ingest_port=2587,
        processes=(ProcessRecord("sender-0", 7, 8010),),
    )
    path = tmp_path / "stack.json"
    write_record(path, record)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(path.read_text())) == [
        "base_url",
        "api_key",
        "webhook_secret",
        "kafka",
        "database_url",
        "from_address",
        "smtp_host",
        "smtp_port",
        "mail_url",
        "mail_dir",
        "smtp_ingest_port",
        "processes",
    ]
    assert read_record(path) == record
    assert list(tmp_path.iterdir()) == [path]


def test_missing_stack_json_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="`make up` starts one"):
        read_record(tmp_path / "stack.json")


def test_second_stack_on_one_data_directory_is_refused_by_name(tmp_path: Path) -> None:
    lock = DataPaths(tmp_path).lock
    assert find_holder(lock) is None
    with hold(lock):
        assert find_holder(lock) is not None
        with pytest.raises(StackError, match=r"already running on .* MILENA_DATA_DIR"), hold(lock):
            pass
        assert find_holder(lock) is not None
    assert find_holder(lock) is None


def test_output_that_is_no_terminal_has_no_colours() -> None:
    stream, second = io.StringIO(), io.StringIO()
    output = Output(stream, also=second)
    output.say(output.emphasise("hello"))
    output.say_for("sender-0", "working")
    assert stream.getvalue() == "hello\nsender-0         | working\n"
    assert second.getvalue() == "hello\n"


def test_a_secret_line_is_kept_otherwise_in_a_file_and_shown_whole_where_there_is_no_other_stream() -> None:
    stream, second = io.StringIO(), io.StringIO()
    Output(stream, also=second).say("key mk_secret", kept="key mk_s…")
    assert (stream.getvalue(), second.getvalue()) == ("key mk_s…\n", "key mk_secret\n")
    alone = io.StringIO()
    Output(alone).say("key mk_secret", kept="key mk_s…")
    assert alone.getvalue() == "key mk_secret\n"


def test_processes_do_not_move_the_cursor() -> None:
    stream = io.StringIO()
    output = Output(stream)
    output.say_for("sender-0", "\x1b[?25h\b")
    output.say_for("sender-0", "\x1b[2K\r\x1b[31mred\x1b[0m")
    assert stream.getvalue() == "sender-0         | \x1b[31mred\x1b[0m\n"


def test_timeline_shows_the_relays_own_words() -> None:
    line = describe_event({"type": "email.sent", "response": "250 2.0.0 kept as 7", "attempt": 1})
    assert line == "email.sent  250 2.0.0 kept as 7"


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"detail": "see errors", "errors": [{"pointer": "/to", "detail": "is needed"}]}, "to is needed"),
        ({"detail": "The API key is not valid."}, "The API key is not valid."),
        ("bad gateway", "bad gateway"),
    ],
)
def test_refusal_is_told_in_the_words_of_its_problem(problem: object, words: str) -> None:
    assert describe_problem(problem) == words


def test_with_a_certificate_the_apis_and_only_they_are_asked_over_tls() -> None:
    environment = build_environment({}, {}, Ports.from_offset(0), "secret", "https")
    assert environment["MILENA_BASE_URL"] == "https://127.0.0.1:8000"
