from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from santiago_platform.domain.quantity import ByteQuantity, memory_bytes, memory_rounded, memory_text

QUANTITY: TypeAdapter[str] = TypeAdapter(ByteQuantity)


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_a_limit_as_text_is_exact(count: int) -> None:
    assert memory_bytes(QUANTITY.validate_python(memory_text(count))) == count


@pytest.mark.parametrize(
    ("count", "text"), [(134217728, "128Mi"), (1500000000, "1500M"), (1 << 40, "1Ti"), (12345, "12345"), (0, "0")]
)
def test_a_limit_is_written_as_people_write_it(count: int, text: str) -> None:
    assert memory_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(13002342, "12.4Mi"), (3 << 20, "3Mi"), (1536 << 20, "1.5Gi"), (1000, "1000"), (0, "0")]
)
def test_what_is_in_use_is_rounded(count: int, text: str) -> None:
    assert memory_rounded(count) == text


@pytest.mark.parametrize("text", ["", "12i", "1.", "-1", "1 Gi", "1gi", "Gi", "1" * 30, "1e9"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        QUANTITY.validate_python(text)
