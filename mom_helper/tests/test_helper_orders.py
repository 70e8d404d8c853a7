"""What goes over the socket."""

import ast
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mom_helper
from mom_helper.orders import ANSWER_SIZE, ORDER_SIZE, Answer, Order

INT32, INT64 = st.integers(0, (1 << 32) - 1), st.integers(-(1 << 63), (1 << 63) - 1)


@given(INT32, INT32, INT64, INT64, INT64, INT64)
def test_an_order_comes_as_it_was_sent(number: int, id_: int, a: int, b: int, c: int, d: int) -> None:
    order = Order(number, id_, a, b, c, d)
    assert len(order.packed()) == ORDER_SIZE
    assert Order.unpacked(order.packed()) == order


@given(INT32, INT32, INT64, INT64, st.binary(max_size=5000))
def test_an_answer_comes_as_it_was_sent_and_its_text_is_bounded(id_: int, error: int, a: int, b: int, text: bytes) -> None:
    packed = Answer(id_, error, a, b, text).packed()
    assert len(packed) <= ANSWER_SIZE
    assert Answer.unpacked(packed) == Answer(id_, error, a, b, text[:4096])


@pytest.mark.parametrize("size", [0, 1, ORDER_SIZE - 1, ORDER_SIZE + 1])
def test_no_other_size_is_an_order(size: int) -> None:
    with pytest.raises(struct.error):
        Order.unpacked(bytes(size))


def test_what_runs_as_root_imports_the_standard_library_only() -> None:
    for path in Path(mom_helper.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "mom_helper"}, path.name
