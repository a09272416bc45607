"""A real Postfix on the loopback interface: STARTTLS, AUTH (Cyrus SASL), restrictions of its own; it discards the mail.

Debian's package, installed or unpacked into the cache, with a configuration, a queue and a log of its own. Its master
wants to be root, and needs two of the system's unprivileged accounts.
"""

import contextlib
import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from deploy.local.ports import find_free_port
from tests.bench.figures import NotMeasured
from tests.bench.packages import Found, Program, find_program

_POSTFIX = Program("postfix", "usr/sbin/postfix", ("postfix",), "usr/lib/postfix")
_SASL = Program("saslpasswd2", "usr/sbin/saslpasswd2", ("sasl2-bin", "libsasl2-modules-db", "libsasl2-modules"))
_ACCOUNTS = (("postfix", "postdrop"), ("news", "uucp"), ("daemon", "mail"))  # mail_owner, setgid_group
_START_S, _STOP_S = 10, 10
HOST = "relay.example.org"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
meta_directory = {root}/etc
shlib_directory = no
command_directory = {base}/usr/sbin
daemon_directory = {base}/usr/lib/postfix/sbin
mail_owner = {owner}
setgid_group = {group}
import_environment = MAIL_CONFIG MAIL_LOGTAG LD_LIBRARY_PATH SASL_PATH
maillog_file = {root}/log
maillog_file_prefixes = {root}
myhostname = {host}
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
default_transport = discard
smtpd_peername_lookup = no
smtpd_client_connection_rate_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = {root}/etc/relay.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = {host}
cyrus_sasl_config_path = {root}/etc/sasl
smtpd_recipient_restrictions =
    reject_unauth_pipelining, check_recipient_access texthash:{root}/etc/access, permit_sasl_authenticated, reject
smtpd_data_restrictions = reject_unauth_pipelining
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - 100 smtpd
pickup  unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr    unix n - n 300 1 qmgr
tlsmgr  unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce  unix - - n - 0 bounce
defer   unix - - n - 0 bounce
trace   unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error   unix - - n - - error
discard unix - - n - - discard
anvil   unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
_SASL_CONFIG = (
    "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {root}/etc/sasldb2\n"
)


class NoPostfix(Exception):
    """It cannot be run here; the message says why."""


@dataclass(frozen=True)
class Postfix:
    """A running one: its port, the file of the authority that signed its certificate, and its log."""

    port: int
    ca_file: Path
    log: Path

    def read_log(self) -> list[str]:
        """Everything it has written so far."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []


@contextlib.contextmanager
def run_postfix(username: str, password: str, access: Mapping[str, str]) -> Iterator[Postfix]:
    """Postfix for one user. `access`: what is answered to a recipient, as in access(5). Raises NoPostfix."""
    if os.geteuid() != 0:
        raise NoPostfix("Postfix's master wants to be root")
    try:
        postfix, sasl = find_program(_POSTFIX), find_program(_SASL)
    except NotMeasured as exc:
        raise NoPostfix(str(exc)) from exc
    root = Path(tempfile.mkdtemp(prefix="milena-postfix-"))
    try:
        port = find_free_port()
        base = postfix.path.resolve().parents[2]
        _write_configuration(root, base, port, access)
        _write_certificate(root / "etc")
        _add_user(root / "etc" / "sasldb2", sasl, username, password)
        _give_to_owner(root)
        env = {**postfix.env, "MAIL_CONFIG": str(root / "etc"), **_find_plugins(sasl)}
        with _run_master(base / "usr/lib/postfix/sbin/master", root, env):
            _wait_open(port, root / "log")
            yield Postfix(port, root / "etc" / "ca.pem", root / "log")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _find_accounts() -> tuple[str, str]:
    for owner, group in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(owner).pw_name, grp.getgrnam(group).gr_name
    raise NoPostfix("no unprivileged accounts to run Postfix as")


def _write_configuration(root: Path, base: Path, port: int, access: Mapping[str, str]) -> None:
    root.chmod(0o755)
    for name in ("etc/sasl", "queue", "data"):
        (root / name).mkdir(parents=True)
    owner, group = _find_accounts()
    values = {"root": root, "base": base, "port": port, "owner": owner, "group": group, "host": HOST}
    (root / "etc/main.cf").write_text(_MAIN.format(**values))
    (root / "etc/master.cf").write_text(_MASTER.format(**values))
    (root / "etc/sasl/smtpd.conf").write_text(_SASL_CONFIG.format(**values))
    (root / "etc/access").write_text("".join(f"{address} {answer}\n" for address, answer in access.items()))


def _write_certificate(directory: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1", HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "relay.pem"))


def _add_user(file: Path, sasl: Found, username: str, password: str) -> None:
    command = [str(sasl.path), "-p", "-c", "-f", str(file), "-u", HOST, username]
    env = {**sasl.env, **_find_plugins(sasl)}
    done = subprocess.run(command, input=password.encode(), env=env, capture_output=True, check=False)
    if done.returncode or not file.exists():
        raise NoPostfix(f"saslpasswd2: {done.stderr.decode(errors='replace')[:300]}")


def _find_plugins(sasl: Found) -> dict[str, str]:
    """Where the unpacked plugins of SASL lie; installed ones are found without."""
    return {"SASL_PATH": ":".join(map(str, sasl.path.parents[2].glob("usr/lib/*/sasl2")))}


def _give_to_owner(root: Path) -> None:
    """The queue as `postfix create-missing` would make it, without a system-wide installation."""
    owner, group = _find_accounts()
    for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved"):
        (root / "queue" / name).mkdir(mode=0o700)
        shutil.chown(root / "queue" / name, owner)
    for name, mode in (("trace", 0o700), ("maildrop", 0o730), ("public", 0o710)):
        (root / "queue" / name).mkdir()
        (root / "queue" / name).chmod(mode)
        shutil.chown(root / "queue" / name, owner, group)
    (root / "queue" / "pid").mkdir()
    for path in (root / "data", root / "etc" / "sasldb2"):
        shutil.chown(path, owner)


@contextlib.contextmanager
def _run_master(binary: Path, root: Path, env: Mapping[str, str]) -> Iterator[None]:
    command = [str(binary), "-c", str(root / "etc"), "-d"]
    with (root / "output").open("wb") as output:
        master = subprocess.Popen(command, stdout=output, stderr=output, env=env, start_new_session=True)
    try:
        yield
    finally:
        master.terminate()  # it ends its children
        try:
            master.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            master.kill()
            master.wait()


def _wait_open(port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(_START_S)
            if probe.recv(100).startswith(b"220"):
                probe.sendall(b"QUIT\r\n")
                return
        time.sleep(0.05)
    said = [path.read_text(errors="replace") for path in (log, log.parent / "output") if path.exists()]
    raise NoPostfix(f"it did not start: {' '.join(said)[-500:]}")
