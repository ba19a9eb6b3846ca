"""`sen-edge bench --host` with a real sshd and a simulated benchmark that can fail."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import Outcome
from tests.remote.conftest import left, options
from tests.support import sshd

Run = Callable[..., Outcome]

pytestmark = [pytest.mark.needs("ssh", "sshd"), pytest.mark.usefixtures("stand_ins")]


# --- what works ----------------------------------------------------------------------------------


def test_two_hosts_at_once_side_by_side(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    data = tmp_path / "data set.npz"
    data.write_text("inputs")
    outputs = {name: tmp_path / f"out.{name}" for name in ("json", "history")}
    flags = [f"--{name}={path}" for name, path in outputs.items()]
    asked = options(device, tmp_path, names=("device", "twin"))
    outcome = sen_edge("bench", artifact, *asked, "--engine", "onnxruntime", "--threads", "1,2", "--data", data, *flags)
    assert outcome.code == 0, outcome.err
    assert outcome.out == "device\ntable of complete\n\ntwin\ntable of complete\n"
    assert {"device: measuring a row", "twin: measuring a row"} <= set(outcome.err.splitlines())
    one, two = json.loads(outputs["json"].read_text())
    assert one["command"][-1] == "--host=device" and two["command"][-1] == "--host=twin"
    assert one["argv"] == [
        "bench", "--threads=1,2", "--engine=onnxruntime", "--json=-", "--data=data/data set.npz", "0/net.onnx"
    ]  # fmt: skip
    assert one["files"] == {"0/net.onnx": "model", "data/data set.npz": "inputs"}
    assert outputs["history"].read_text() == "complete\n" * 2
    assert left(device) == []


def test_hosts_are_separated_by_commas_or_repeated(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    asked = options(device, tmp_path, names=("device", "other", "twin"))
    for hosts in (["--host=device,twin"], ["--host=device", "--host=twin"]):
        outcome = sen_edge("bench", artifact, *asked, *hosts)
        assert outcome.code == 0, outcome.err
        assert outcome.out == "device\ntable of complete\n\ntwin\ntable of complete\n"


def test_one_host_gives_one_record(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    outcome = sen_edge("bench", artifact, *options(device, tmp_path), "--json=-")
    assert json.loads(outcome.out)["status"] == "complete"


def test_names_that_a_shell_or_a_parser_would_misread(sen_edge: Run, device: sshd.Server, tmp_path: Path) -> None:
    names = ['my model\'s "best" $(touch pwned);`x`.onnx', "-rf.onnx", "--help.onnx", "a\\b*?.sen", "ünï.sen"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/--help.onnx").write_text("another of the same name")
    paths = [tmp_path / name for name in names] + [tmp_path / "other/--help.onnx", tmp_path / names[0]]
    outcome = sen_edge("bench", *options(device, tmp_path), "--json=-", "--", *paths)
    record = json.loads(outcome.out)
    assert record["files"] == {
        **{f"{index}/{name}": name for index, name in enumerate(names)},
        "5/--help.onnx": "another of the same name",
    }
    assert record["argv"][-7:] == [f"{i}/{name}" for i, name in enumerate([*names, "--help.onnx"])] + [f"0/{names[0]}"]


def test_a_file_named_like_an_option_is_taken_from_the_folder_we_are_in(
    sen_edge: Run, device: sshd.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-v.sen").write_text("model")
    monkeypatch.chdir(tmp_path)
    outcome = sen_edge("bench", *options(device, tmp_path), "--json=-", "--", "-v.sen")
    assert json.loads(outcome.out)["command"][:3] == ["sen-edge", "bench", "./-v.sen"]


@pytest.mark.parametrize("option", ["--keep", "--clean"])
def test_the_working_folder_stays_or_goes(
    option: str, sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("fail")  # also after a failure
    assert sen_edge("bench", artifact, *options(device, tmp_path), option).code == 1
    assert [name.split("/", 1)[1] for name in left(device)] == (["0/net.onnx"] if option == "--keep" else [])


def test_the_core_of_the_inventory_and_of_the_command_line(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    for stated, word in (("3", "3"), ("[2, 3]", "2,3"), ("'big'", "big")):
        asked = options(device, tmp_path, text=f"cpu = {stated}")
        assert f"--cpu={word}" in json.loads(sen_edge("bench", artifact, *asked, "--json=-").out)["argv"]
    argv = json.loads(sen_edge("bench", artifact, *asked, "--json=-", "--cpu", "1,2", "--batch=8").out)["argv"]
    assert {"--cpu=1,2", "--batch=8"} <= set(argv) and "--cpu=big" not in argv


def test_a_measurement_that_was_throttled_is_kept_and_exits_3(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("throttled")
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    assert (outcome.code, outcome.out) == (3, "table of complete\n")


# --- installing ----------------------------------------------------------------------------------

#: `python3` of a device without network or runtime: makes environments whose pip notes what it is asked for.
DEVICE_PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo venv >> "$HOME/log"
elif [ "$1 $2" = "-m pip" ]; then
  for last; do :; done
  echo "pip $last" >> "$HOME/log"
  if [ -e "$HOME/offline" ]; then echo "ERROR: No matching distribution found for numpy" >&2; exit 1; fi
  tar -tf "${last#*file://}" > "$HOME/archive"
else
  PYTHONPATH={stand_in}
  export PYTHONPATH
  exec {python} -S "$@"
fi
"""


@pytest.fixture
def bare_device(own_server: Callable[..., sshd.Server], tmp_path: Path) -> sshd.Server:
    """A device whose python3 has no runtime yet."""
    path = tmp_path / "bin"
    path.mkdir()
    server = own_server(environment=f"PATH={path}:/usr/bin:/bin")
    stand_in = server.folder / "stand-in"
    wrapper = path / "python3.sh"
    wrapper.write_text(DEVICE_PYTHON.replace("{stand_in}", str(stand_in)).replace("{python}", sys.executable))
    wrapper.chmod(0o755)
    # what the agent takes for its own interpreter is the wrapper too
    patch = f"import sys; sys.executable = {str(wrapper)!r}; exec(sys.argv.pop(1))"
    (path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$1" "$2" "{patch}" "$3"\n')
    (path / "python3").chmod(0o755)
    return server


def test_the_runtime_is_installed_once_and_said_so(sen_edge: Run, bare_device: sshd.Server, artifact: Path) -> None:
    home, asked = bare_device.home, ["--ssh-config", bare_device.config, "--host", "device"]
    outcome = sen_edge("bench", artifact, *asked, "--no-install")
    assert outcome.code == 1 and not (home / "log").exists()
    assert "sen-edge-runtime onnx" in outcome.err
    outcome = sen_edge("bench", artifact, *asked)
    assert outcome.code == 0, outcome.err
    assert "sen-edge-runtime[onnx]" in outcome.err
    made, pip = (home / "log").read_text().splitlines()
    assert made == "venv" and pip.startswith(f"pip sen-edge-runtime[onnx] @ file://{home}/.cache/sen-edge/bench/")
    archive = (home / "archive").read_text().split()
    assert "sen_edge_runtime-0.1.0/pyproject.toml" in archive
    assert "sen_edge_runtime-0.1.0/sen_runtime/c/src/dense.c" in archive
    (home / "log").unlink()
    assert sen_edge("bench", artifact, *asked, "--no-install").code == 0
    assert not (home / "log").exists()
    other = artifact.with_suffix(".tflite")
    other.write_text("model")
    assert sen_edge("bench", artifact, other, *asked, "--engine", "onnxruntime", "--engine", "litert").code == 0
    assert "[onnx,tflite] @" in (home / "log").read_text() and "venv" not in (home / "log").read_text().split()


def test_an_installation_that_fails_is_repeated(sen_edge: Run, bare_device: sshd.Server, artifact: Path) -> None:
    home, asked = bare_device.home, ["--ssh-config", bare_device.config, "--host", "device"]
    (home / "offline").touch()
    outcome = sen_edge("bench", artifact, *asked)
    assert outcome.code == 1 and "device, install: " in outcome.err
    assert "| ERROR: No matching distribution found for numpy" in outcome.err and "  -> " in outcome.err
    assert left(bare_device) == []
    (home / "offline").unlink()
    assert sen_edge("bench", artifact, *asked).code == 0
    assert [line.split()[0] for line in (home / "log").read_text().splitlines()] == ["venv", "pip"] * 2


# --- before anything is measured -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hosts", "TOML"),
        ("", "hosts"),
        ("[hosts]", "hosts"),
        ("[machines.a]", "hosts"),
        ("[hosts.a]\naddress = 'x'\n[machines.a]", "machines"),
        ("[hosts]\na = 1", "hosts.a"),
        ("[hosts.a]\npython = 'x'", "hosts.a.address"),
        ("[hosts.a]\naddress = 'x'\npassword = 'y'", "hosts.a.password"),
        ("[hosts.a]\naddress = 7", "hosts.a.address"),
        ("[hosts.a]\naddress = '-oX'", "'-oX'"),
        ("[hosts.a]\naddress = 'x'\ncpu = -1", "hosts.a.cpu"),
        ("[hosts.a]\naddress = 'x'\ncpu = true", "hosts.a.cpu"),
        ("[hosts.a]\naddress = 'x'\ncpu = []", "hosts.a.cpu"),
        ("[hosts.a]\naddress = 'x'\ncpu = 'small'", "hosts.a.cpu is 'small'"),
        ("[hosts.a]\naddress = 'x'\npython = 'a\x1b'", "TOML"),
        ("[hosts.a]\naddress = 'x'\npython = \"a\\u001b\"", "'a\\x1b'"),
        ("[hosts.'']\naddress = 'x'", "hosts"),
    ],
)
def test_inventories_that_are_wrong(text: str, message: str, sen_edge: Run, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    outcome = sen_edge("bench", artifact, "--inventory", path)
    assert outcome.code == 1 and message in outcome.err and str(path) in outcome.err


def test_hosts_are_chosen_from_the_inventory(tmp_path: Path) -> None:
    from sen_edge.errors import UsageError
    from sen_edge.remote.hosts import Host, choose

    path = tmp_path / "hosts.toml"
    path.write_text(
        "[hosts.a]\naddress = 'pi@10.0.0.4'\ncpu = 3\n[hosts.b]\naddress = 'ssh://pi@[fe80::1%eth0]:2222'\n"
    )
    a, b = Host("pi@10.0.0.4", cpu=3), Host("ssh://pi@[fe80::1%eth0]:2222")
    assert choose([], path) == {"a": a, "b": b}
    assert choose(["b", "pi@c"], path) == {"b": b, "pi@c": Host("pi@c")}
    for names in (["a", "pi@10.0.0.4"], ["b", "b"]):
        with pytest.raises(UsageError, match="host"):
            choose(names, path)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--host=a", "--energy=x.csv"], 2, "--energy"),
        (["--host=a", "--timeout=0"], 2, "--timeout"),
        (["--host=a", "--duration=soon"], 2, "--duration: 'soon'"),
        (["--host=a", "--threads=abc"], 2, "--threads: 'abc'"),
        (["--host=a", "--seconds=nan"], 2, "--seconds"),
        (["--host=a", "--engine=nope"], 2, "'nope'"),
        (["--host=a", "--json=net.onnx", "--force"], 2, "net.onnx"),
        (["--host=a", "--json=x", "--history=x"], 2, "--json"),
        (["--host=a", "--ssh-config=none"], 2, "--ssh-config none"),
        (["--host=a", "--json=nowhere/x.json"], 1, "--json: "),
        (["--host=a", "--json=old.json"], 1, "old.json"),
        (["--host=a", "--json=."], 1, "--json: . "),
        (["--timeout=5"], 2, "--timeout"),
        (["--keep"], 2, "--keep"),
    ],
    ids=str,
)
def test_options_that_cannot_be(
    flags: list[str],
    code: int,
    message: str,
    sen_edge: Run,
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.json").touch()
    outcome = sen_edge("bench", artifact, *flags)
    assert (outcome.code, outcome.out) == (code, "") and message in outcome.err


def test_missing_artifact(sen_edge: Run, tmp_path: Path) -> None:
    outcome = sen_edge("bench", tmp_path / "none.onnx", "--host", "device")
    assert outcome.code == 1 and "none.onnx" in outcome.err


def test_an_artifact_that_is_a_pipe(sen_edge: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.onnx")
    outcome = sen_edge("bench", tmp_path / "net.onnx", "--host", "device")
    assert outcome.code == 1 and "net.onnx" in outcome.err


def test_file_damaged_during_transfer(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256
    monkeypatch.setattr("sen_edge.remote.bench.hashlib", SimpleNamespace(sha256=lambda data: sha256(data + b"x")))
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    assert outcome.code == 1 and "device, upload: " in outcome.err and "SHA-256" in outcome.err
    assert left(device) == []


def test_without_hosts_the_command_of_the_runtime_does_it(
    sen_edge: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("sen_runtime.cli.run", lambda arguments: seen.append(arguments) or 3)
    outcome = sen_edge("bench", artifact, "--engine", "a", "--engine", "b", "--cold-cache", "--json", "-", "--force")
    assert outcome.code == 3
    assert seen == [["bench", str(artifact), "--engine=a", "--engine=b", "--cold-cache", "--json=-", "--force"]]
