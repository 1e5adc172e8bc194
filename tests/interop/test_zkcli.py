"""`zkCli.sh` of Apache ZooKeeper 3.8: the same script on the server under test and on Apache ZooKeeper, line by line.

Both servers are fresh, so that even zxids, versions and sequence numbers must be equal.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence

import pytest

from tests.conftest import ServerFactory
from tests.interop.programs import JVM_OPTIONS
from tests.interop.transcripts import events_and_rest, normal
from tests.support.servers import Server, find_program, java_class_path, package_file

pytestmark = pytest.mark.interop

# Every command of zkCli with its options, on good and on bad input. `printwatches off` stands before the first watch:
# zkCli prints events in a thread of its own, and what is still waiting there when it comes is not printed.
SCRIPT = """\
version
create /z data
create -s /z/s
create -e /z/e edata
create -c /z/c
create -t 60000 /z/t tdata
create -s -t 60000 /z/ts tdata
create -s -e /z/se
create -t 1 -e /z/bad
create -t 1 -c /z/bad
create /nope/x
create /z
create relative
create /z/acl secret world:anyone:r
create /z/badacl x world:anyone:q
create /z/empty ""
create /z/none
create /z/quoted "two words"
printwatches
printwatches off
printwatches on
ls /
ls -s /z
ls -R /z
ls -w /z
ls /z watch
ls /nope
get /z
get -s /z
get -w /z
get /z/none
get /z/quoted
get /nope
set /z new
set -s /z newer
set -v 0 /z old
set -v 2 /z old
set /nope x
stat /z
stat /z/e
stat /z/c
stat /z/t
stat -w /z
stat /nope
sync /z
sync /nope
delete -v 9 /z/c
delete /z/c
delete /z
delete /nope
delete /zookeeper
getAcl /z
getAcl -s /z/acl
setAcl /z world:anyone:crwa
setAcl -s /z world:anyone:cdrwa
setAcl -v 7 /z world:anyone:cdrwa
setAcl -R /z world:anyone:cdrwa
setAcl /z nonsense
setAcl /z nosuchscheme:x:r
addauth digest ann:secret
whoami
create /z/mine "my data" auth::cdrwa
getAcl /z/mine
getAcl -s /z/mine
getEphemerals
getEphemerals /z
getEphemerals /z/e
getAllChildrenNumber /z
getAllChildrenNumber /
getAllChildrenNumber /nope
setquota -n 5 /z
setquota -b 100 /z
setquota -N 50 /z
setquota -B 1000 /z
setquota -n 5 /nope
listquota /z
listquota /
ls -R /zookeeper
get /zookeeper/quota/z/zookeeper_limits
get /zookeeper/quota/z/zookeeper_stats
stat /zookeeper/quota/z/zookeeper_stats
create /z/counted 12345
get /zookeeper/quota/z/zookeeper_stats
setquota -n 5 /z/t
delquota -n /z
delquota -b /z
delquota -N /z
delquota -B /z
delquota /z
listquota /z
ls -R /zookeeper
addWatch /z
addWatch -m PERSISTENT /z/s0000000000
addWatch -m nonsense /z
set /z watched
set /z/s0000000000 watched
create /z/deep
create /z/deep/er
delete /z/deep/er
delete /z/deep
removewatches /z
removewatches /z/s0000000000 -a
removewatches -d /nope
set /z unwatched
config
config -s
config -w
reconfig -remove 3
reconfig -add server.9=127.0.0.1:2888:3888;2181
reconfig -members server.1=127.0.0.1:2888:3888;2181
redo 2
history
deleteall /z
deleteall /nope
deleteall -b 10 /nope
ls
nonsense
create -s -e /left
close
ls /
connect {hosts}
ls /
ls -s /
quit
"""
COMMANDS = {line.split()[0] for line in SCRIPT.splitlines()}
SETTINGS = {"extendedTypesEnabled": "true", "enforceQuota": "false"}


@pytest.fixture(scope="module")
def zkcli(needs: Callable[..., str]) -> list[str]:
    """zkCli as Debian's script starts it, with a logger that shows errors only."""
    java = needs(find_program, "java", "default-jre-headless")
    class_path = needs(java_class_path)
    return [java, *JVM_OPTIONS, "-cp", class_path, "org.apache.zookeeper.ZooKeeperMain"]


def run_script(command: Sequence[str], server: Server, script: str) -> str:
    done = subprocess.run(
        [*command, "-server", server.hosts, "-waitforconnection"],
        input=script.format(hosts=server.hosts),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "TZ": "UTC"},
    )
    return done.stdout


def test_the_script_has_every_command() -> None:
    listed = "addWatch addauth close config connect create delete deleteall delquota get getAcl getAllChildrenNumber"
    listed += " getEphemerals history listquota ls printwatches quit reconfig redo removewatches set setAcl setquota"
    listed += " stat sync version whoami"
    assert set(listed.split()) <= COMMANDS


def test_the_whole_script_prints_the_same(zkcli: list[str], server_factory: ServerFactory) -> None:
    outputs = [run_script(zkcli, server_factory(SETTINGS, **kind), SCRIPT) for kind in ({}, {"kind": "java"})]
    (our_events, ours), (their_events, theirs) = (events_and_rest(output) for output in outputs)
    assert normal(ours) == normal(theirs)
    assert normal("\n".join(our_events)) == normal("\n".join(their_events))
    assert "Not connected" in theirs
    assert len(their_events) > 12


QUOTAS = """\
create /q data
setquota -N 2 /q
create /q/one
create /q/two
setquota -B 10 /q
set /q 0123456789012345
set /q 01
setquota -n 1 /q
setquota -b 1 /q
set /q 012
delquota -N /q
create /q/three
listquota /q
"""


def test_enforced_quotas_print_the_same(zkcli: list[str], server_factory: ServerFactory) -> None:
    settings = {"enforceQuota": "true"}
    outputs = [run_script(zkcli, server_factory(settings, **kind), QUOTAS) for kind in ({}, {"kind": "java"})]
    assert normal(events_and_rest(outputs[0])[1]) == normal(events_and_rest(outputs[1])[1])
    assert "Quota has exceeded" in outputs[1]


@pytest.fixture(scope="module")
def debian_script(needs: Callable[..., str]) -> str:
    needs(find_program, "java", "default-jre-headless")
    return needs(package_file, "zookeeper", "/zkCli.sh")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["create", "{path}", "data"], 0, "Created {path}"),
        (["create", "{path}"], 1, "Node already exists: {path}"),
        (["get", "{path}"], 0, "data"),
        (["get", "/does-not-exist"], 1, "Node does not exist: /does-not-exist"),
        (["deleteall", "{path}"], 0, ""),
    ],
)
def test_debians_script_with_one_command(
    debian_script: str, corekit_server: Server, arguments: list[str], code: int, expected: str
) -> None:
    command = ["bash", debian_script, "-server", corekit_server.hosts, "-timeout", "9000"]
    filled = [argument.format(path="/zkcli-once") for argument in arguments]
    done = subprocess.run([*command, *filled], capture_output=True, text=True, timeout=60, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert expected.format(path="/zkcli-once") in output.splitlines() or not expected, output


def test_chroot_and_read_only_options(zkcli: list[str], corekit_server: Server) -> None:
    base = [*zkcli, "-server"]
    for arguments in ([corekit_server.hosts, "create", "/zkcli-root"], [f"{corekit_server.hosts}/zkcli-root", "-r"]):
        done = subprocess.run(
            [*base, *arguments],
            input="create /inside x\nls /\nquit\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "[inside]" in done.stdout
