"""AWS's list prices in us-east-1, in US dollars, each with its source and date.

Free tiers of the first year are left out. Prices change: check them before you decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HOURS_PER_MONTH: Final = 730


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one unit, in dollars."""

    dollars: float
    unit: str
    #: The month in which it was read, and the source: AWS's page or Price List API, or a quotation.
    source: str


_PRICE_LIST: Final = "2024-07, Price List API by infracost's test data"
_LAMBDA: Final = "2026-09, aws.amazon.com/lambda/pricing"
_S3: Final = "2026-09, aws.amazon.com/s3/pricing"

#: Each price holds up to this number of requests a month.
API_REQUESTS: Final[Sequence[tuple[float, Price]]] = (
    (333e6, Price(3.50e-6, "request", _PRICE_LIST)),
    (1e9, Price(2.80e-6, "request", _PRICE_LIST)),
    (20e9, Price(2.38e-6, "request", _PRICE_LIST)),
    (float("inf"), Price(1.51e-6, "request", _PRICE_LIST)),
)

_CACHE: Final = "undated list, 0.5 and 237 GB confirmed 2024-07"
STAGE_CACHE: Final[Mapping[str, Price]] = {
    size: Price(hourly, "hour", _CACHE)
    for size, hourly in {
        "0.5": 0.020,
        "1.6": 0.038,
        "6.1": 0.200,
        "13.5": 0.250,
        "28.4": 0.500,
        "58.2": 1.000,
        "118": 1.900,
        "237": 3.800,
    }.items()
}

LAMBDA_REQUEST: Final = Price(0.20e-6, "request", _LAMBDA)
LAMBDA_ARM: Final = Price(0.0000133334, "GB-second", _LAMBDA)
FIREHOSE: Final = Price(0.029, "GB, each record rounded up to 5 KB", "2026-09, Firehose pricing")
S3_PUT: Final = Price(0.005e-3, "request", _S3)
S3_GET: Final = Price(0.0004e-3, "request", _S3)
S3_STORAGE: Final = Price(0.023, "GB-month", _S3)
SQS: Final = Price(0.40e-6, "request", _PRICE_LIST)
#: A db.t3.large has two processors; other families cost about the same per processor.
DATABASE: Final = Price(0.145, "hour of db.t3.large", "2026-05, Price List API by infracost")
DATABASE_STORAGE: Final = Price(0.115, "GB-month", "2026-05, half of Multi-AZ's 0.23")
DATABASE_PROXY: Final = Price(0.015, "vCPU-hour", "2026-08, AWS's advisor for RDS Proxy")
#: Without the price of its traffic, of which the sweep has very little.
ENDPOINT: Final = Price(0.01, "hour and zone of an interface endpoint", _PRICE_LIST)
LOGS: Final = Price(0.50, "GB", "2026-08, aws.amazon.com/cloudwatch/pricing")
WAF_FIXED: Final = Price(11.0, "month: one ACL and six rules", _PRICE_LIST)
WAF_REQUEST: Final = Price(0.60e-6, "request", _PRICE_LIST)
CLOUDFRONT_REQUEST: Final = Price(1.00e-6, "request above 10 million", "2026-09")
CLOUDFRONT_TRAFFIC: Final = Price(0.085, "GB above 1 TB", "2026-09")
TRAFFIC: Final = Price(0.09, "GB above 100 GB", "2024-07")
