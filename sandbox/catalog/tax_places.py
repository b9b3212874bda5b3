"""Where the sandbox knows a sales tax: a small table, as of January 2026, not tax advice.

EU: each member state's standard VAT rate. GB: standard VAT. US: the state's own part only, with no county or
city tax on top, for a few states; `US_SERVICES` are those of them that tax software and services delivered
online.
"""

from decimal import Decimal

EU = {
    country: Decimal(rate)
    for country, rate in {
        "AT": "20", "BE": "21", "BG": "20", "CY": "19", "CZ": "21", "DE": "19", "DK": "25", "EE": "24",
        "ES": "21", "FI": "25.5", "FR": "20", "GR": "24", "HR": "25", "HU": "27", "IE": "23", "IT": "22",
        "LT": "21", "LU": "17", "LV": "21", "MT": "18", "NL": "21", "PL": "23", "PT": "23", "RO": "21",
        "SE": "25", "SI": "22", "SK": "23",
    }.items()
}  # fmt: skip
GB = Decimal(20)
US = {
    state: Decimal(rate)
    for state, rate in {
        "CA": "7.25",
        "FL": "6",
        "MA": "6.25",
        "NY": "4",
        "PA": "6",
        "TX": "6.25",
        "WA": "6.5",
    }.items()
}
US_SERVICES = frozenset({"MA", "NY", "PA", "TX", "WA"})

# Stripe's tax codes: nothing is taxed under this one, and those that begin so are delivered online.
NONTAXABLE = "txcd_00000000"
ONLINE = "txcd_10"
# Where prices are told without tax; elsewhere Stripe infers that they include it.
EXCLUSIVE_CURRENCIES = frozenset({"cad", "usd"})
STATE_NAMES = {
    "CA": "California",
    "FL": "Florida",
    "MA": "Massachusetts",
    "NY": "New York",
    "PA": "Pennsylvania",
    "TX": "Texas",
    "WA": "Washington",
}
