"""The price list that ships with genai-prices: read from the package, never fetched."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from ...domain.advisor import AdvisorType
from ...domain.budget import Price

# Of one's own GPUs nobody lists prices: what they cost is said in santiago.yaml.
LISTED = {
    AdvisorType.OPENAI: "openai",
    AdvisorType.ANTHROPIC: "anthropic",
    AdvisorType.COPILOT: "github-copilot",
}


@lru_cache(maxsize=64)
def list_price(vendor: AdvisorType, model: str) -> Price | None:
    """The highest price of the model, whatever it depends on; None where the list does not know it, or has no price
    of it: what is "included in the subscription" costs something else, which only its owner knows."""
    if vendor not in LISTED:
        return None
    from genai_prices import data_snapshot, types

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, LISTED[vendor], None)
    except LookupError:
        return None
    prices = [found.prices] if isinstance(found.prices, types.ModelPrice) else [part.prices for part in found.prices]
    if all(getattr(p, side, None) is None for p in prices for side in _SIDES):
        return None
    dearest = {side: max((_highest(getattr(p, side, None)) for p in prices), default=None) for side in _SIDES}
    if None in dearest.values() or not any(dearest.values()):
        return None
    return Price.model_validate({"input_usd": dearest["input_mtok"], "output_usd": dearest["output_mtok"]})


_SIDES = ("input_mtok", "output_mtok")


def _highest(price: object) -> Decimal:
    """Of a price that rises with the length of the prompt. Without one, as high as a price may be."""
    if price is None:
        return Decimal(10_000)
    tiers = getattr(price, "tiers", None)
    return max([price.base, *(tier.price for tier in tiers)]) if tiers is not None else Decimal(str(price))  # type: ignore[attr-defined]
