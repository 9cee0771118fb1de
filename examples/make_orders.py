#!/usr/bin/env python3
"""Writes 1,000 plausible orders, one JSON order request per line, the same ones every time.

    python examples/make_orders.py > examples/orders.ndjson

Most are what a desk sends in a day. The first few have the smallest and the largest values that are
allowed.
"""

import json
import random
import sys
from collections.abc import Iterator
from typing import Any, Final

ORDERS: Final = 1000
DAY: Final = "2026-11-23"

NSE: Final = tuple(
    """
    RELIANCE TCS HDFCBANK ICICIBANK INFY SBIN BHARTIARTL ITC HINDUNILVR LT KOTAKBANK
    AXISBANK BAJFINANCE BAJAJFINSV BAJAJ-AUTO BAJAJHLDNG ASIANPAINT MARUTI SUNPHARMA TITAN
    ULTRACEMCO NESTLEIND WIPRO HCLTECH TECHM M&M M&MFIN TATASTEEL JSWSTEEL POWERGRID NTPC
    ONGC COALINDIA HEROMOTOCO INDUSINDBK HINDALCO GRASIM DRREDDY CIPLA DIVISLAB APOLLOHOSP
    EICHERMOT BRITANNIA TATACONSUM ADANIENT ADANIPORTS SBILIFE HDFCLIFE BPCL IOC GAIL
    TATAPOWER AMBUJACEM ACC SHREECEM PIDILITIND DABUR MARICO GODREJCP COLPAL HAVELLS SIEMENS
    ABB BOSCHLTD DLF LUPIN AUROPHARMA BIOCON VEDL NMDC SAIL JINDALSTEL PNB BANKBARODA CANBK
    FEDERALBNK IDFCFIRSTB J&KBANK UNITDSPR NAM-INDIA INDIGO TRENT PAGEIND MRF VOLTAS
    TVSMOTOR ASHOKLEY BHEL BEL HAL IRCTC NAUKRI PERSISTENT COFORGE MPHASIS MUTHOOTFIN
    CHOLAFIN
    """.split()  # noqa: SIM905 - words read better than a hundred quoted strings
)

BSE: Final = {
    "500325": "rel",  # Reliance Industries
    "532540": "tcs",  # Tata Consultancy Services
    "500180": "hdb",  # HDFC Bank
    "500209": "inf",  # Infosys
    "532174": "ici",  # ICICI Bank
    "500112": "sbi",  # State Bank of India
    "532454": "bha",  # Bharti Airtel
    "500875": "itc",  # ITC
    "500696": "hul",  # Hindustan Unilever
    "500510": "lnt",  # Larsen & Toubro
    "500247": "kot",  # Kotak Mahindra Bank
    "532215": "axi",  # Axis Bank
    "500034": "baj",  # Bajaj Finance
    "532500": "mar",  # Maruti Suzuki
    "524715": "sun",  # Sun Pharma
    "500114": "tit",  # Titan
    "507685": "wip",  # Wipro
    "500520": "mnm",  # Mahindra & Mahindra
    "500470": "tat",  # Tata Steel
    "532555": "ntp",  # NTPC
}
"""Codes of BSE, each with the short name that is in the keys of its orders."""

EXPENSIVE: Final = frozenset({"NSE:MRF", "NSE:PAGEIND", "NSE:BOSCHLTD", "NSE:SHREECEM"})
"""Shares that cost tens of thousands of rupees each. Orders of them are a thousandth as large."""

Terms = tuple[int, int, int, bool | None]
"""total_quantity, num_splits, duration_minutes, and randomize, None where it is left out."""

EXTREMES: Final[tuple[Terms, ...]] = (
    (2, 2, 1, True),
    (2, 2, 1440, False),
    (3, 2, 1, None),
    (100, 100, 1, True),
    (100, 100, 1440, False),
    (101, 100, 375, None),
    (199, 100, 60, True),
    (1_000_000_000, 2, 1, True),
    (1_000_000_000, 2, 1440, False),
    (1_000_000_000, 100, 1, None),
    (1_000_000_000, 100, 1440, True),
    (999_999_999, 100, 1440, False),
    (999_999_937, 97, 1439, True),
)

UNUSUAL_KEYS: Final = (
    "x",
    "ऑर्डर_2026-11-23_रिलायंस_0001",
    "ஆர்டர்-2026-11-23-0002",
    "注文_2026-11-23_0003",
    "commande n° 4 / façade été",
    'ouk "quoted" \\ back\\slash, comma',
    "ouk_🚀_0005",
    "ouk_" + "9f3c" * 62 + "end",
    "क" * 255,
)

DURATIONS: Final = (5, 10, 15, 20, 30, 30, 45, 60, 60, 60, 90, 120, 180, 240, 300, 360, 375)
SPLITS: Final = (2, 3, 4, 5, 5, 6, 8, 10, 10, 10, 12, 15, 20, 20, 24, 25, 30, 40, 50, 60, 75, 100)


class Choices:
    """Random choices from a fixed seed.

    They use only `random()`, the one method of the generator whose numbers are guaranteed to be the
    same in every version of Python.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - choices of examples are no secrets

    def between(self, least: int, most: int) -> int:
        """A whole number from `least` to `most`, both included."""
        return least + int(self._random.random() * (most - least + 1))

    def one_of(self, options: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever the options are
        """One of the options, all with the same probability."""
        return options[self.between(0, len(options) - 1)]


def orders() -> Iterator[dict[str, Any]]:
    """The order requests, in the sequence of the file."""
    choices = Choices(20261123)
    instruments = (
        *((f"NSE:{symbol}", _short_name(symbol)) for symbol in NSE),
        *((f"BSE:{code}", short_name) for code, short_name in BSE.items()),
    )
    for number in range(1, ORDERS + 1):
        instrument, short_name = instruments[number * 37 % len(instruments)]
        key = f"ouk_{DAY}_{short_name}_{number:04d}"
        if number <= len(EXTREMES):
            terms = EXTREMES[number - 1]
        else:
            terms = _plausible_terms(choices, 1000 if instrument in EXPENSIVE else 1)
            unusual = number - len(EXTREMES) - 1
            key = UNUSUAL_KEYS[unusual] if unusual < len(UNUSUAL_KEYS) else key
        yield _order(key, instrument, choices.one_of(("BUY", "SELL")), terms)


def _plausible_terms(choices: Choices, divisor: int) -> Terms:
    """Mostly a few thousand shares in ten or twenty slices within a session of 375 minutes."""
    num_splits = choices.one_of(SPLITS)
    scale = choices.one_of((100, 500, 1_000, 1_000, 5_000, 5_000, 10_000, 50_000, 1_000_000))
    quantity = choices.between(1, 20) * scale // choices.one_of((1, 1, 2, 3))
    total_quantity = max(num_splits, quantity // divisor)
    duration_minutes = choices.one_of(DURATIONS)
    randomize = choices.one_of((True, True, True, False, None))
    return total_quantity, num_splits, duration_minutes, randomize


def _order(key: str, instrument: str, side: str, terms: Terms) -> dict[str, Any]:
    total_quantity, num_splits, duration_minutes, randomize = terms
    split_config = {"num_splits": num_splits, "duration_minutes": duration_minutes}
    if randomize is not None:
        split_config["randomize"] = randomize
    return {
        "order_unique_key": key,
        "instrument": instrument,
        "side": side,
        "total_quantity": total_quantity,
        "split_config": split_config,
    }


def _short_name(symbol: str) -> str:
    return "".join(c for c in symbol.lower() if c.isalnum())[:3]


def main() -> None:
    """Write every order to standard output, always in UTF-8."""
    for order in orders():
        line = json.dumps(order, ensure_ascii=False, separators=(",", ":"))
        sys.stdout.buffer.write(line.encode() + b"\n")


if __name__ == "__main__":
    main()
