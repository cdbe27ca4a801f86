"""Values inside a state: JSON that gives back exactly what was put in, bytes and NaN included."""

import math
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import BeforeValidator, PlainSerializer


def pack(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, str):
        return _packed_text(value)
    if isinstance(value, np.ndarray):
        return {"list": [pack(one) for one in value.tolist()]}
    if isinstance(value, (list, tuple)):
        return {"list": [pack(one) for one in value]}
    return value


def unpack(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "hex":
        return bytes.fromhex(inner)
    if kind == "float":
        return float(inner)
    if kind == "text":
        return bytes.fromhex(inner).decode(errors="surrogatepass")
    if kind == "list":
        return [unpack(one) for one in inner]
    raise ValueError(f"no stored value is called {kind!r}")


def _packed_text(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON's UTF-8 cannot hold
        return {"text": text.encode(errors="surrogatepass").hex()}
    return text


Stored: TypeAlias = Annotated[Any, BeforeValidator(unpack), PlainSerializer(pack)]
