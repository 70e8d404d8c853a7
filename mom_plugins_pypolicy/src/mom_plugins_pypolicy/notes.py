"""The notes that a policy may keep on the host and the guests."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, TypeAdapter

_Text = Annotated[str, Field(max_length=4096)]
_Scalar = bool | Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)] | Annotated[float, Field(gt=-(2.0**63), lt=2.0**63)] | _Text
Notes = Annotated[dict[_Text, _Scalar | Annotated[list[_Scalar], Field(max_length=1000)]], Field(max_length=1000)]

CAN_BE_KEPT: Final = TypeAdapter(Notes)
