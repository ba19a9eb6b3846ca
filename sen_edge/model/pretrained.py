"""Folder of a shared model, as repositories of the Hugging Face Hub are laid out.

- model.safetensors: checkpoint; or model.sen, the image of a model that is none
- config.json: name and hash of the model file, facts and configuration of the network
- README.md: model card, see `sen_edge.model.card`
- artifacts: exported files and their manifests
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge import manifest_file
from sen_edge.errors import CheckpointError, OutputError, UsageError
from sen_edge.model.card import Card, SavedModel
from sen_edge.overwrite import refuse_existing, write_outputs
from sen_runtime import __version__
from sen_runtime.errors import MissingExtraError
from sen_runtime.untrusted import load_json, printable, quote, read_regular

FORMAT, VERSION = "sen-edge-model", 1
CHECKPOINT, IMAGE = "model.safetensors", "model.sen"
CONFIG, CARD, ARTIFACTS = "config.json", "README.md", "artifacts"
#: Identifiers of licences on the Hub.
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
#: Max bytes of config.json.
MAX_CONFIG = 1 << 24
#: Characters quoted of a message of huggingface_hub.
MAX_REASON = 200
EXPECTED = (
    "expected a checkpoint, an image, a NIR graph, a folder that Model.save_pretrained wrote, or with "
    "--map space-as-time one of Space as Time"
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """Entry of a folder.

    Attributes:
        path: of the checkpoint or image.
        sha256: of that file.
        source: `file` and `sha256` of the file that it was saved from.
        config: configuration of the checkpoint, plain values, or None.
    """

    path: Path
    sha256: str
    source: Mapping[str, str]
    config: Any


def read(folder: Path) -> Entry:
    """Read config.json.

    Raises:
        CheckpointError: it is missing or damaged, or the folder is of another kind or version.
    """
    path = folder / CONFIG
    if not path.exists():
        raise CheckpointError(f"{folder} is a folder without {CONFIG}", hint=EXPECTED)
    found = load_json(read_regular(path, MAX_CONFIG, error=CheckpointError), str(path), error=CheckpointError)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CheckpointError(f"{path} does not describe a model of sen-edge", hint=EXPECTED)
    if found.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version is {quote(found.get('version'))}; this sen-edge reads version {VERSION}",
            hint="update sen-edge",
        )
    if found.get("file") not in (CHECKPOINT, IMAGE):
        raise CheckpointError(f"{path}: file is {quote(found.get('file'))}; expected {CHECKPOINT} or {IMAGE}")
    source = found.get("source")
    if not isinstance(source, dict) or not all(isinstance(source.get(key), str) for key in ("file", "sha256")):
        raise CheckpointError(f"{path}: source is {quote(source)}; expected file and sha256")
    return Entry(folder / found["file"], str(found.get("sha256")), source, found.get("config"))


def source_of(path: Path | None, name: str, sha256: str) -> Mapping[str, str]:
    """Return `file` and `sha256` of the file that a model was first saved from, which its folder may state."""
    if path is not None:
        with suppress(CheckpointError):
            entry = read(path.parent)
            if entry.sha256 == sha256:
                return entry.source
    return {"file": name, "sha256": sha256}


def write(
    folder: Path,
    saved: SavedModel,
    exports: Iterable[Path],
    sha256: str,
    *,
    license_id: str | None,
    force: bool,
) -> list[Path]:
    """Write a folder, all or nothing; other files in it, such as those of git, stay. See `Model.save_pretrained`.

    `sha256` is the hash of the file that the model was loaded from.

    Raises:
        UsageError, OutputError: see `read_exports`; or invalid `license_id`.
        OutputError: see `write_outputs`; or the folder has a model or exports that would remain next to the new ones.
    """
    if license_id is not None and not LICENSE_ID.fullmatch(license_id):
        raise UsageError(f"license_id is {quote(license_id)}; expected an identifier such as apache-2.0")
    refuse_existing(folder, (saved.file, CONFIG, CARD), force=force)
    manifests, artifacts = read_exports(exports, {sha256, saved.source["sha256"], saved.sha256})
    name = folder.resolve().name
    try:
        card = Card(name, saved, manifests, license_id).text()
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # an edited manifest
        raise OutputError(f"a manifest in exports has other entries than an export writes: {error!r}") from error
    entries = {
        "format": FORMAT,
        "version": VERSION,
        **saved.summary,
        "name": name,
        "task": saved.network.task,
        "file": saved.file,
        "sha256": saved.sha256,
        "source": saved.source,
        "config": saved.config,
    }
    config = (json.dumps(entries, indent=2, sort_keys=True) + "\n").encode()
    files = {saved.file: saved.data, CONFIG: config, CARD: card.encode(), **artifacts}
    for stale in (CHECKPOINT, IMAGE, ARTIFACTS):
        if (folder / stale).exists() and not any(file.split("/")[0] == stale for file in files):
            raise OutputError(
                f"{folder / stale} is of an earlier model and would remain", hint="remove it, or name it in exports"
            )
    write_outputs(folder, files, force=force)
    return [folder / file for file in files]


# --- exports -------------------------------------------------------------------------------------


def read_exports(paths: Iterable[Path], hashes: Collection[str]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Read exports of a model: their manifests, and the content of all files by name.

    Args:
        paths: manifests, or folders of them.
        hashes: SHA-256 of the files that an export of the model can have been made from.

    Raises:
        UsageError: a path is no manifest and no folder of them.
        OutputError: an export is of another model; a file is missing or changed; two exports have a file of one name.
    """
    manifests: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for path in (each for given in paths for each in _manifests(given)):
        found = manifest_file.read(path)
        if found is None:
            raise UsageError(f"{path} is not the manifest of an export", hint="name the manifests in exports")
        if found["input"]["sha256"] not in hashes:
            raise OutputError(
                f"{path} is of the model {quote(found['input'].get('file'))} with another hash",
                hint="name only the manifests of this model in exports",
            )
        new = {path.name: read_regular(path, manifest_file.MAX_BYTES, error=OutputError)}
        for artifact in found["artifacts"]:
            new |= manifest_file.read_files(path.parent, artifact)
        if twice := new.keys() & files.keys():
            raise OutputError(f"two exports have a file {min(twice)}", hint="export under another --name")
        manifests.append(found)
        files |= new
    return manifests, {f"{ARTIFACTS}/{name}": data for name, data in files.items()}


def _manifests(path: Path) -> Sequence[Path]:
    """Return a manifest, or those of exports in a folder."""
    if not path.is_dir():
        return [path]
    found = [each for each in sorted(path.glob(f"*{manifest_file.SUFFIX}")) if manifest_file.read(each) is not None]
    if not found:
        raise UsageError(f"{path} holds no manifest of an export", hint="expected a folder of sen-edge export")
    return found


# --- Hub -----------------------------------------------------------------------------------------


def download(name: str | Path, revision: str | None, *, local_files_only: bool) -> Path:
    """Download config.json and the model file of a model on the Hub to the cache of huggingface_hub.

    Args:
        name: `OWNER/NAME`; a `Path` is a folder that does not exist.
        revision: branch, tag or commit; None for the default branch.
        local_files_only: read the cache only.

    Returns:
        Folder of the revision in the cache.

    Raises:
        CheckpointError: not a name; or the download fails.
        MissingExtraError: huggingface_hub is not installed.
    """
    if isinstance(name, Path) or not HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"{printable(str(name))} is not a folder", hint="a model on the Hugging Face Hub is named OWNER/NAME"
        )
    if Path(name).parent.exists():
        raise CheckpointError(
            f"{name} is not a folder; nothing is downloaded, because {Path(name).parent} exists here",
            hint=f"for the model of that name on the Hugging Face Hub: hf download {name} --local-dir FOLDER",
        )
    config = _fetch(name, CONFIG, revision, local_files_only)
    file = read(config.parent).path.name
    return _fetch(name, file, config.parent.name, local_files_only).parent  # of the commit that has this config.json


def _fetch(name: str, file: str, revision: str | None, local_files_only: bool) -> Path:
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise MissingExtraError(
            f"{name} is not a folder; huggingface_hub, which downloads it as a model of the Hugging Face Hub,",
            "pip install 'sen-edge[hub]'",
        ) from None
    where = f"{name} is not a folder; as a model of the Hugging Face Hub"
    try:
        path = hf_hub_download(
            name,
            file,
            revision=revision,
            local_files_only=local_files_only,
            library_name="sen-edge",
            library_version=__version__,
        )
    except errors.RepositoryNotFoundError:
        raise CheckpointError(f"{where} it does not exist, or is private", hint="hf auth login") from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{where} it has no revision {quote(revision)}") from None
    except errors.LocalEntryNotFoundError:
        raise CheckpointError(f"{where} it is not in the cache, and the Hub is not reached") from None
    except errors.EntryNotFoundError:
        raise CheckpointError(f"{where} it has no {file}; expected a model of sen-edge") from None
    except Exception as error:  # of the HTTP library, which differs between versions
        reason = printable(str(error).strip().partition("\n")[0], MAX_REASON)
        raise CheckpointError(f"{where} it cannot be downloaded: {reason}") from error
    return Path(path)
