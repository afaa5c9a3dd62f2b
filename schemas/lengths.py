"""Units of length, as people and files spell them."""

from __future__ import annotations

MICROMETRES = {
    "nm": 1e-3, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "km": 1e9, "in": 25_400.0,
}  # fmt: skip
"""Unit → micrometres in it."""
_WORDS = {
    "µm": "um", "μm": "um", "micron": "um", "microns": "um", "micrometer": "um",
    "micrometre": "um", "\\u00b5m": "um", "nanometer": "nm", "millimeter": "mm",
    "centimeter": "cm", "meter": "m", "metre": "m", "inch": "in", "inches": "in",
}  # fmt: skip


def micrometres_in(unit: str) -> float | None:
    """Micrometres in a unit, None if it is not known."""
    plain = unit.strip().lower()
    return MICROMETRES.get(_WORDS.get(plain, plain))
