"""Atomic writing of files."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sen_runtime.files import NotRestoredError, write_all, write_atomic


def content(folder):
    """Name -> bytes of everything in `folder`, hidden files included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def no_hard_links(monkeypatch):
    """A file system such as FAT, on which os.link fails."""

    def link(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


@pytest.fixture
def dead_pid():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def fail_in_call(monkeypatch, function, *which):
    """Let `os.<function>` fail on these calls, counted from 1, as on a disk that is full."""
    true, calls = getattr(os, function), []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) in which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true(*arguments, **options)

    monkeypatch.setattr(os, function, failing)


@pytest.mark.parametrize("replace", [True, False])
def test_writes_what_it_is_given(tmp_path, replace):
    files = {"a": b"one", "b.bin": bytes(range(256)), "empty": b""}
    write_all({tmp_path / name: data for name, data in files.items()}, replace=replace)
    assert content(tmp_path) == files


def test_nothing_to_write():
    write_all({})


def test_replaces(tmp_path):
    write_atomic(tmp_path / "a", b"a long content")
    write_atomic(tmp_path / "a", b"short")
    assert content(tmp_path) == {"a": b"short"}


def test_does_not_replace_unless_asked(tmp_path):
    write_atomic(tmp_path / "a", b"mine")
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a", b"yours", replace=False)
    assert content(tmp_path) == {"a": b"mine"}


def test_does_not_replace_without_hard_links_either(tmp_path, no_hard_links):
    write_atomic(tmp_path / "a", b"mine", replace=False)
    with pytest.raises(FileExistsError, match="a'"):
        write_atomic(tmp_path / "a", b"yours", replace=False)
    assert content(tmp_path) == {"a": b"mine"}


def test_does_not_replace_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a", b"yours", replace=False)
    assert (tmp_path / "a").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_one_file_in_the_way_and_none_is_written(tmp_path):
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_all({tmp_path / name: b"yours" for name in "abc"}, replace=False)
    assert content(tmp_path) == {"b": b"mine"}


def test_one_file_in_the_way_and_none_is_written_without_hard_links(tmp_path, no_hard_links):
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_all({tmp_path / name: b"yours" for name in "abc"}, replace=False)
    assert content(tmp_path) == {"b": b"mine"}


@pytest.mark.parametrize("replace", [True, False])
def test_failure_in_the_second_file_leaves_nothing(tmp_path, monkeypatch, replace):
    fail_in_call(monkeypatch, "fsync", 2)
    with pytest.raises(OSError, match="No space left"):
        write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"}, replace=replace)
    assert content(tmp_path) == {}


def test_failure_in_the_second_file_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    fail_in_call(monkeypatch, "fsync", 2)
    with pytest.raises(OSError, match="No space left"):
        write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert content(tmp_path) == {"a": b"old"}


def test_folder_that_is_not_there_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_all({tmp_path / "a": b"1", tmp_path / "nowhere" / "b": b"2"})
    assert content(tmp_path) == {}


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", b"1")
    assert content(tmp_path) == {}


def test_bytes_reach_the_disk_before_any_name_does(tmp_path, monkeypatch):
    true = os.fsync
    seen = []

    def fsync(descriptor):
        true(descriptor)
        seen.append({name: data for name, data in content(tmp_path).items() if not name.startswith(".")})
        seen.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    write_all({tmp_path / "a": b"1", tmp_path / "b": b"22"})
    assert seen == [{}, 1, {}, 2]


@pytest.mark.skipif(os.name != "posix", reason="only there can a process be asked whether it lives")
def test_what_a_killed_process_left_is_removed(tmp_path, dead_pid):
    (tmp_path / f".a.{dead_pid}.tmp").write_bytes(b"half")
    write_atomic(tmp_path / "a", b"whole")
    assert content(tmp_path) == {"a": b"whole"}


@pytest.mark.skipif(os.name != "posix", reason="only there can a process be asked whether it lives")
def test_what_is_not_left_over_is_kept(tmp_path, dead_pid):
    """A living process's file, another path's, and names that only look alike."""
    kept = [f".a.{os.getppid()}.tmp", f".a.{'9' * 30}.tmp", f".b.{dead_pid}.tmp", ".a.tmp", ".a..tmp", ".a.x1.tmp"]
    kept += [f".a.{dead_pid}", f"a.{dead_pid}.tmp", f".a.b.{dead_pid}.tmp"]
    for name in kept:
        (tmp_path / name).write_bytes(b"kept")
    write_atomic(tmp_path / "a", b"whole")
    assert content(tmp_path) == {"a": b"whole", **dict.fromkeys(kept, b"kept")}


def test_file_of_a_process_of_another_user_is_kept(tmp_path, monkeypatch):
    def kill(pid, signal):
        assert signal == 0
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    (tmp_path / ".a.4242.tmp").write_bytes(b"kept")
    write_atomic(tmp_path / "a", b"whole")
    assert content(tmp_path) == {"a": b"whole", ".a.4242.tmp": b"kept"}


# --- folders


def tree(folder):
    """Name -> bytes of every file below `folder`, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("replace", [True, False])
def test_writes_folders(tmp_path, replace):
    write_all({tmp_path / "a": {"x": b"1", "deep/y": b"2"}, tmp_path / "b": b"3"}, replace=replace)
    assert tree(tmp_path) == {"a/x": b"1", "a/deep/y": b"2", "b": b"3"}


def test_replaces_a_folder_with_all_that_is_in_it(tmp_path):
    write_all({tmp_path / "a": {"x": b"1", "old": b"2"}})
    write_all({tmp_path / "a": {"x": b"3"}})
    assert tree(tmp_path) == {"a/x": b"3"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_does_not_replace_a_folder_unless_asked(tmp_path):
    write_all({tmp_path / "a": {"x": b"1"}})
    with pytest.raises(FileExistsError):
        write_all({tmp_path / "b": b"2", tmp_path / "a": {"x": b"3"}}, replace=False)
    assert tree(tmp_path) == {"a/x": b"1"}


def test_a_file_replaces_no_folder_and_a_folder_no_file(tmp_path):
    write_all({tmp_path / "folder": {"x": b"1"}, tmp_path / "file": b"2"})
    for path, content in ((tmp_path / "folder", b"3"), (tmp_path / "file", {"x": b"3"})):
        with pytest.raises(OSError, match=path.name):
            write_all({path: content})
    assert tree(tmp_path) == {"folder/x": b"1", "file": b"2"}


@pytest.mark.parametrize("replace", [True, False])
def test_failure_within_a_folder_leaves_what_was_there(tmp_path, monkeypatch, replace):
    if replace:
        write_all({tmp_path / "a": {"x": b"old"}})
    before = tree(tmp_path)
    fail_in_call(monkeypatch, "fsync", 2)
    with pytest.raises(OSError, match="No space left"):
        write_all({tmp_path / "a": {"x": b"1", "y": b"2"}}, replace=replace)
    assert tree(tmp_path) == before and len(list(tmp_path.iterdir())) == replace


def test_failed_replacement_keeps_the_old_folder(tmp_path, monkeypatch):
    write_all({tmp_path / "a": {"x": b"old"}})
    fail_in_call(monkeypatch, "replace", 1)
    with pytest.raises(OSError, match="No space left"):
        write_all({tmp_path / "a": {"x": b"new"}})
    assert tree(tmp_path) == {"a/x": b"old"}


def test_removes_what_dead_processes_left_of_folders(tmp_path, dead_pid):
    for name in (f".a.{dead_pid}.tmp", f".a.{dead_pid}.old.tmp", f".a.{os.getppid()}.tmp", ".a.old.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(b"")
    write_all({tmp_path / "a": {"x": b"1"}})
    assert {path.name for path in tmp_path.iterdir()} == {"a", f".a.{os.getppid()}.tmp", ".a.old.tmp"}


# --- a failure half-way


@pytest.mark.parametrize("links", [True, False])
def test_replaced_files_are_restored_after_a_failure(tmp_path, monkeypatch, links, request):
    if not links:
        request.getfixturevalue("no_hard_links")
    write_all({tmp_path / "file": b"old", tmp_path / "folder": {"x": b"old"}, tmp_path / "last": b"old"})
    (tmp_path / "link").symlink_to("last")
    fail_in_call(monkeypatch, "replace", 5)
    new = {"file": b"new", "folder": {"y": b"new"}, "none": b"new", "link": b"new", "last": b"new"}
    with pytest.raises(OSError, match="No space left"):
        write_all({tmp_path / name: data for name, data in new.items()})
    assert tree(tmp_path) == {"file": b"old", "folder/x": b"old", "last": b"old", "link": b"old"}
    assert (tmp_path / "link").readlink() == Path("last")


def test_path_of_another_kind_is_not_replaced(tmp_path):
    write_all({tmp_path / "a": b"old", tmp_path / "b": b"old", tmp_path / "c": {"x": b"old"}})
    before = tree(tmp_path)
    for last in ({tmp_path / "b": {"x": b"new"}}, {tmp_path / "c": b"new"}):
        with pytest.raises(OSError, match="irectory"):
            write_all({tmp_path / "a": b"new", **last})
        assert tree(tmp_path) == before


def test_replaced_files_are_restored_after_an_interrupt(tmp_path, monkeypatch):
    write_all({tmp_path / "a": b"old", tmp_path / "b": b"old"})
    true = os.replace

    def interrupted(source, target):
        true(source, target)
        if str(target).endswith("b") and not str(source).endswith(".old.tmp"):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_all({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert content(tmp_path) == {"a": b"old", "b": b"old"}


def test_unrestorable_backup_is_named_and_kept(tmp_path, monkeypatch):
    write_all({tmp_path / "a": b"old", tmp_path / "b": b"old"})
    fail_in_call(monkeypatch, "replace", 2, 3)  # b, and a back again
    kept = tmp_path / f".a.{os.getpid()}.old.tmp"
    with pytest.raises(NotRestoredError, match=rf"\ba\b.*{kept}"):
        write_all({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert content(tmp_path) == {"a": b"new", "b": b"old", kept.name: b"old"}
    write_all({tmp_path / "a": b"newest"})
    assert content(tmp_path) == {"a": b"newest", "b": b"old"}


@pytest.mark.skipif(os.name != "posix", reason="only there can a process be asked whether it lives")
def test_the_only_copy_of_a_folder_outlives_a_disk_that_is_full(tmp_path, monkeypatch, dead_pid):
    """As after a kill between two renames: the old folder is aside, the new one has no name yet."""
    write_all({tmp_path / f".a.{dead_pid}.old.tmp": {"x": b"old"}, tmp_path / f".a.{dead_pid}.tmp": {"x": b"new"}})
    with monkeypatch.context() as patch:
        fail_in_call(patch, "fsync", 1)
        with pytest.raises(OSError, match="No space left"):
            write_all({tmp_path / "a": {"x": b"newer"}})
    assert tree(tmp_path) == {"a/x": b"old"}
    with pytest.raises(FileExistsError):
        write_all({tmp_path / "a": {"x": b"newer"}}, replace=False)
    write_all({tmp_path / "a": {"x": b"newer"}})
    assert tree(tmp_path) == {"a/x": b"newer"} and [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="only there can a process be asked whether it lives")
def test_last_of_two_old_folders_is_restored(tmp_path, dead_pid):
    for pid, data in ((dead_pid, b"last"), ("999999999", b"first")):
        write_all({tmp_path / f".a.{pid}.old.tmp": {"x": data}})
    time.sleep(0.02)  # times of files come in ticks of the kernel's clock
    (tmp_path / f".a.{dead_pid}.old.tmp").rename(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / f".a.{dead_pid}.old.tmp")
    with pytest.raises(FileExistsError):
        write_all({tmp_path / "a": {"x": b"new"}}, replace=False)
    assert (tmp_path / "a/x").read_bytes() == b"last"


def test_an_old_name_is_no_other_paths_new_one(tmp_path):
    """`a.old` waits under a name of its own while `a` is kept."""
    write_all({tmp_path / "a": {"x": b"1"}, tmp_path / "a.old": {"x": b"2"}})
    write_all({tmp_path / "a": {"x": b"3"}, tmp_path / "a.old": {"x": b"4"}})
    assert tree(tmp_path) == {"a/x": b"3", "a.old/x": b"4"}
