from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gl_ris.errors import UserError
from gl_ris.weights import check_names_and_shapes, hash_weights, read_weights, state_dict_in


class Program:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.write_text, (Path("ran"), "yes")


def test_a_file_of_tensors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": {"a": torch.arange(3)}, "iteration": 7}, path)
    assert state_dict_in(read_weights(path, "X"), "X")["a"].tolist() == [0, 1, 2]


def save_program(path: Path) -> None:
    torch.save({"model": {"a": Program()}}, path)


def save_part(path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("w.pth", lambda path: None, r"X: there is no file of weights .*w\.pth, look here\."),
        ("w.pth", lambda path: path.mkdir(), r"there is no file of weights"),
        ("w.pth", save_program, r"X: the weights .*w\.pth cannot be read .*values alone"),
        ("w.pth", save_part, r"X: the weights .*w\.pth cannot be read"),
        ("w.pth", lambda path: path.write_bytes(b""), r"cannot be read"),
        ("w.pth", lambda path: path.write_text("<html>404</html>"), r"cannot be read"),
        ("w.pth", lambda path: path.write_text("junk\n"), r"cannot be read \(it is no file of torch\.save\)"),
        ("w.pkl", lambda path: path.write_bytes(pickle.dumps({"model": {}})), r"could run code.*torch\.save"),
    ],
    ids=["missing", "folder", "program", "cut-off", "empty", "web-page", "text", "pickle"],
)
def test_a_file_that_is_no_data_is_refused(name: str, write: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / name, "X", ", look here")
    assert not Path("ran").exists()


def test_weights_may_be_numpy_arrays() -> None:
    found = state_dict_in({"model": {"a": np.ones(2, np.float32)}}, "X")
    assert torch.equal(found["a"], torch.ones(2))


@pytest.mark.parametrize("content", [{}, [1], None, {"model": {}}, {"model": {"a": "text"}}, {"a": object()}])
def test_what_is_no_state_dict_is_refused(content: Any) -> None:
    with pytest.raises(UserError, match=r"X: weight"):
        state_dict_in(content, "X")


def test_every_misfit_is_named() -> None:
    wanted = {name: torch.zeros(2) for name in "abc"}
    check_names_and_shapes(dict(wanted), wanted, "X")
    given = {"a": torch.zeros(2), "b": torch.zeros(3), "d": torch.zeros(1)}
    message = (
        r"X: these weights do not fit the network: 1 missing \(c\); 1 unexpected \(d\); "
        r"1 of another shape \(b is \(3,\) instead of \(2,\)\)\."
    )
    with pytest.raises(UserError, match=message):
        check_names_and_shapes(given, wanted, "X")


def test_many_misfits_are_counted_and_some_named() -> None:
    wanted = {str(name): torch.zeros(1) for name in range(100)}
    with pytest.raises(UserError, match=r"100 missing \(0, 1, 2, 3, 4, \.\.\.\); 1 unexpected \(x\)\."):
        check_names_and_shapes({"x": torch.zeros(1)}, wanted, "X")


def test_the_hash_is_of_names_types_shapes_and_values() -> None:
    one = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3, dtype=torch.int64)}
    digest = hashlib.sha256()
    digest.update(b"a torch.int64 ()\n" + np.int64(3).tobytes())
    digest.update(b"b torch.float32 (2,)\n" + np.array([1, 2], np.float32).tobytes())
    assert hash_weights(one) == digest.hexdigest()
    assert hash_weights(dict(reversed(one.items()))) == hash_weights(one)
    strided = {**one, "b": torch.tensor([[1.0, 9], [2, 9]])[:, 0]}
    assert hash_weights(strided) == hash_weights(one)
    others = [
        {**one, "b": torch.tensor([1.0, 3.0])},
        {**one, "b": torch.tensor([[1.0, 2.0]])},
        {**one, "b": torch.tensor([1.0, 2.0]).double()},
        {"b": one["b"]},
        {"c": one["b"], "a": one["a"]},
    ]
    assert len({hash_weights(other) for other in [one, *others]}) == 6
