"""Tables: columns, names, forms of CSV, and rejected files."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.data.calibration import load_calibration
from sen_edge.data.datasets import load, load_part, load_test
from sen_edge.model.config import SpatialConfig
from sen_runtime.data import TRAINING, DataFile, csv_table
from sen_runtime.errors import DataError, MissingExtraError
from sen_runtime.ir.network import Network
from tests.conftest import make_network

RNG = np.random.default_rng(0)
X = RNG.random((100, 3)).round(4)
KINDS = np.array(["wolf", "ant", "Élan"])[np.arange(100) % 3]
HEADER = "a,b,c,kind"
ROWS = [f"{a},{b},{c},{kind}" for (a, b, c), kind in zip(X, KINDS, strict=True)]
CSV = "\n".join([HEADER, *ROWS]) + "\n"


def write(path: Path, text: str | bytes, name: str = "data.csv") -> str:
    path.mkdir(exist_ok=True)
    (path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path / name)


def network(**metadata: object) -> Network:
    """A network of three features and three classes with names."""
    stated = {"feature_names": ["a", "b", "c"], "target_columns": ["kind"], "output_names": ["ant", "wolf", "Élan"]}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in {**stated, **metadata}.items()
    }
    return replace(make_network(SpatialConfig((3, 3))), metadata=texts)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(CSV, id="plain"),
        pytest.param(CSV.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(b"\xef\xbb\xbf" + CSV.encode(), id="byte order mark"),
        pytest.param(CSV.replace(",", ";"), id="semicolons"),
        pytest.param(CSV.replace(",", "\t"), id="tabs"),
        pytest.param(CSV.replace(",", " , ").replace("\n", "\n\n"), id="spaces and blank lines"),
        pytest.param(CSV.replace("wolf", '"wolf"').replace("a,b", '"a",b'), id="quotes"),
    ],
)
def test_forms_of_csv(tmp_path: Path, text: str | bytes) -> None:
    dataset = load(write(tmp_path, text), target=("kind",))
    assert (dataset.feature_names, dataset.output_names) == (("a", "b", "c"), ("ant", "wolf", "Élan"))
    assert (dataset.task, dataset.n_out, dataset.target_columns) == ("classification", 3, ("kind",))
    both = np.concatenate([dataset.train_inputs, dataset.test_inputs])
    np.testing.assert_array_equal(np.sort(both, 0), np.sort(X.astype(np.float32), 0))
    chosen = (dataset.test_inputs[:, None] == X.astype(np.float32)).all(axis=2).argmax(axis=1)
    assert [dataset.output_names[target] for target in dataset.test_targets] == KINDS[chosen].tolist()


def test_quoted_separators_quotes_and_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path, '"a, b","c ""d""","y\nz"\n' + "0.5,1.5,0.25\n" * 20 + "1,2,0.5\n" * 5)
    dataset = load(path, target=("y\nz",))
    assert dataset.feature_names == ("a, b", 'c "d"')
    with pytest.raises(DataError, match="line 5"):
        load(write(tmp_path, '"a\nb",y\n1,2\n1,x\nnext,3\n'), target=("y",), task="regression")


def test_a_table_without_a_header_has_numbers_as_names(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, "\n".join(ROWS)), target=("3",))
    assert (dataset.feature_names, dataset.output_names) == (("0", "1", "2"), ("ant", "wolf", "Élan"))
    assert len(dataset.train_inputs) + len(dataset.test_inputs) == 100
    same = load(write(tmp_path, "\n".join(["0,1,2,kind", *ROWS])), target=("kind",))
    np.testing.assert_array_equal(same.train_inputs, dataset.train_inputs)


def test_several_targets_and_their_tasks(tmp_path: Path) -> None:
    rows = [f"{a},{b:.0f},{c:.0f}" for a, b, c in X]
    path = write(tmp_path, "\n".join(["a,b,c", *rows]))
    labels = load(path, target=("b", "c"))
    assert (labels.task, labels.output_names, labels.n_in) == ("multilabel", ("b", "c"), 1)
    values = load(path, target=("a",))
    assert (values.task, values.output_names, values.train_targets.shape) == ("regression", ("a",), (80, 1))
    assert load(path, task="reconstruction").n_out == 3


def test_columns_of_a_network_are_found_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = load_test(write(tmp_path, CSV), None, network())
    assert not caplog.messages
    rows = [f"9,{kind},{c},{a},{b}" for (a, b, c), kind in zip(X, KINDS, strict=True)]
    other = load_test(write(tmp_path, "\n".join(["extra,kind,c,a,b", *rows])), None, network())
    np.testing.assert_array_equal(other.inputs, plain.inputs)
    np.testing.assert_array_equal(other.targets, plain.targets)
    (warning,) = caplog.messages
    assert "extra" in warning
    with pytest.raises(DataError, match=r"2 of 3 .* a, c;.*\bb, A"):
        load_test(write(tmp_path, "b,A,kind\n1,2,ant\n"), None, network())


def test_classes_are_those_of_the_network(tmp_path: Path) -> None:
    path = write(tmp_path, CSV)
    names = ["wolf", "Élan", "ant"]
    found = load_test(path, None, network(output_names=names))
    rows = (found.inputs[:, None] == X.astype(np.float32)).all(axis=2).argmax(axis=1)
    assert [names[target] for target in found.targets] == KINDS[rows].tolist()
    with pytest.raises(DataError, match=r"line 2, column 'kind' is 'wolf'.*ant, Élan"):
        load_test(path, None, network(output_names=["ant", "Élan"]))
    with pytest.raises(DataError, match="names"):
        load_test(path, None, network(output_names=[]))


def test_a_class_may_be_called_like_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,c,kind\n" + "0,0,0,1\n" * 5 + "0,0,1,0\n" * 5)
    assert load_test(path, None, network(output_names=["x", "1", "0"])).targets.tolist() == [1, 2]
    assert load_test(path, None, network()).targets.tolist() == [1, 0]  # class numbers


def test_inputs_without_targets_are_calibration_data(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(["b,a,c", *(f"{b},{a},{c}" for a, b, c in X)]))
    found = load_calibration(path, None, network())
    assert len(found.inputs) + len(found.held_out) == 100
    with pytest.raises(DataError, match="labels"):
        load_test(path, None, network())


def test_a_folder_of_two_tables(tmp_path: Path) -> None:
    write(tmp_path, CSV, "train.csv")
    write(tmp_path, "kind,c,b,a\n" + "wolf,3,2,1\n" * 3, "test.csv")
    dataset = load(str(tmp_path), target=("kind",))
    assert len(dataset.train_inputs) == 100 and dataset.test_targets.tolist() == [1, 1, 1] and not dataset.is_split
    np.testing.assert_array_equal(dataset.test_inputs[0], [1, 2, 3])
    assert load_part(str(tmp_path), TRAINING, None, network(input_range="0 3")).title.endswith("(training part: 100)")
    write(tmp_path, "kind,c,b,a\nfox,3,2,1\n", "test.csv")
    with pytest.raises(DataError, match=r"test\.csv, line 2.*'fox'.*ant, wolf"):
        load(str(tmp_path), target=("kind",))
    write(tmp_path, CSV, "train.tsv")
    with pytest.raises(DataError, match=r"train\.csv, train\.tsv"):
        load(str(tmp_path), target=("kind",))


def test_an_unnamed_column_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "\n".join(["," + HEADER, *(f"{index},{row}" for index, row in enumerate(ROWS))]))
    assert load(path, target=("kind",)).feature_names == ("a", "b", "c")
    assert len(caplog.messages) == 1 and "without a name" in caplog.messages[0]


def changed(line: int, old: str, new: str) -> str:
    lines = CSV.splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    return "\n".join(lines)


VALUE = str(X[8, 1])


@pytest.mark.parametrize(
    ("text", "target", "message", "hint"),
    [
        pytest.param(CSV, ("knid",), r"'knid'.*a, b, c, kind", "'kind'", id="no such target"),
        pytest.param(CSV, (), r"target.*a, b, c, kind", "--target", id="no target"),
        pytest.param(CSV, ("kind", "kind"), "kind", "", id="a target twice"),
        pytest.param(CSV.replace("wolf", "ant").replace("Élan", "ant"), ("kind",), "is 'ant'", "", id="constant"),
        pytest.param(changed(10, VALUE, ""), ("kind",), r"line 10, column 'b' is empty", "missing", id="empty cell"),
        pytest.param(changed(10, VALUE, "nan"), ("kind",), r"line 10, column 'b' is 'nan'", "missing", id="nan"),
        pytest.param(changed(10, VALUE, "NA"), ("kind",), r"line 10, column 'b' is 'NA'", "", id="NA"),
        pytest.param(changed(10, VALUE, "1e999"), ("kind",), r"line 10, column 'b' is '1e999'", "", id="infinite"),
        pytest.param(changed(10, VALUE, "1e99"), ("kind",), r"'b' is inf", "", id="beyond float32"),
        pytest.param(changed(10, KINDS[8], ""), ("kind",), r"column 'kind' is empty", "", id="no class"),
        pytest.param(CSV, ("a",), r"line 2, column 'kind' is 'wolf'", "encode", id="text in a feature"),
        pytest.param(changed(10, "," + VALUE, ""), ("kind",), r"line 10: 3 values; expected 4", "", id="a short row"),
        pytest.param(changed(10, KINDS[8], KINDS[8] + ",1"), ("kind",), "line 10: 5", "", id="a long row"),
        pytest.param(CSV.replace("a,b,c", "a,b,a"), ("kind",), r"same name: a\b", "", id="a name twice"),
        pytest.param(CSV.replace(",", ";").replace(".", ","), ("kind",), "line 2", "points", id="decimal commas"),
        pytest.param("", ("kind",), "empty", "", id="empty"),
        pytest.param(HEADER + "\n", ("kind",), "no rows", "", id="only a header"),
        pytest.param("kind\nant\nwolf\n", ("kind",), "no column", "", id="no features"),
        pytest.param(CSV.encode("latin-1"), ("kind",), "UTF-8.*0xc9", "UTF-8", id="not UTF-8"),
        pytest.param(CSV.encode("utf-16"), ("kind",), "UTF-8", "UTF-8", id="UTF-16"),
        pytest.param(changed(10, VALUE, "1" * 200_000), ("kind",), "line 10", "", id="a large field"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(
    tmp_path: Path, text: str | bytes, target: tuple[str, ...], message: str, hint: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path, text), target=target)
    assert hint in caught.value.hint and len(caught.value.message) < 600
    assert "data.csv" in caught.value.message and caught.value.message.isprintable()


def test_a_gap_in_values_is_no_class(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(["a,b,y", *(f"{a},{b},{'?' if i == 6 else c}" for i, (a, b, c) in enumerate(X))]))
    for task in (None, "regression"):
        with pytest.raises(DataError, match=r"line 8, column 'y' is '\?'"):
            load(path, target=("y",), task=task)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, CSV)
    monkeypatch.setattr(csv_table, "MAX_LINE", 20)
    with pytest.raises(DataError, match=r"\b20 characters"):
        load(path, target=("kind",))
    monkeypatch.setattr(csv_table, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="100 B"):
        load(path, target=("kind",))
    monkeypatch.undo()
    monkeypatch.setattr(csv_table, "MAX_COLUMNS", 3)
    with pytest.raises(DataError, match=r"4 columns.*\b3\b"):
        load(path, target=("kind",))


def test_thousands_of_columns_in_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "CHUNK_CELLS", 9000)
    x = RNG.integers(0, 9, (50, 4000))
    text = "\n".join([",".join(f"c{i:040}" for i in range(4000)), *(",".join(map(str, row)) for row in x)])
    dataset = load(write(tmp_path, text), task="reconstruction")
    both = np.concatenate([dataset.train_inputs, dataset.test_inputs])
    np.testing.assert_array_equal(np.sort(both, 0), np.sort(x, 0))


def test_target_names_columns_of_tables_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=X, y=np.arange(100) % 2)
    for name in ("digits", str(tmp_path / "data.npz")):
        with pytest.raises(DataError, match="--target"):
            load(name, target=("y",))


# --- Parquet --------------------------------------------------------------------------------------


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"a": X[:, 0], "b": X[:, 1].astype(np.float32), "c": (1e4 * X[:, 2]).astype(int), "kind": KINDS}
    parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    text = "\n".join([HEADER, *(f"{a},{b},{1e4 * c:.0f},{kind}" for (a, b, c), kind in zip(X, KINDS, strict=True))])
    expected = load(write(tmp_path, text), target=("kind",))
    found = load(str(tmp_path / "data.parquet"), target=("kind",))
    np.testing.assert_allclose(found.train_inputs, expected.train_inputs, atol=1)
    np.testing.assert_array_equal(found.train_targets, expected.train_targets)
    assert found.output_names == expected.output_names
    encoded = pa.table({**columns, "kind": pa.array(KINDS).dictionary_encode()})
    parquet.write_table(encoded, tmp_path / "data.parquet")
    np.testing.assert_array_equal(
        load(str(tmp_path / "data.parquet"), target=("kind",)).test_targets, expected.test_targets
    )


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("a", [1.0, None, 2.0], r"row 1, column 'a' is empty"),
        ("a", [1.0, 2.0, float("nan")], r"row 2, column 'a' is empty"),
        ("a", ["x", "y", "z"], r"column 'a' holds 'x'"),
        ("kind", ["x", None, "z"], r"row 1, column 'kind' is empty"),
    ],
    ids=["null", "nan", "text", "no class"],
)
def test_bad_parquet(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"a": [1.0, 2.0, 3.0], "kind": ["x", "y", "z"], column: values}
    parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "data.parquet"), target=("kind",))


def test_damaged_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"data\.parquet"):
        load(write(tmp_path, b"PAR1 no table PAR1", "data.parquet"), target=("kind",))


def test_missing_pyarrow_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError) as caught:
        DataFile(Path(write(tmp_path, b"", "data.parquet")))
    assert "sen-edge[parquet]" in caught.value.hint
