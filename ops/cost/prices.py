"""AWS's list prices in us-east-1, in US dollars, each with its source and date.

Free tiers of the first year are left out; free amounts that do not end are subtracted. Prices
change: check them before you decide.
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
#: Instances that are kept ready cost four fifths of x86's price, as duration does.
LAMBDA_READY: Final = Price(0.0000033334, "GB-second of arm64, kept ready", _LAMBDA)
#: For each published version, all the time (Lambda developer guide, "SnapStart pricing").
LAMBDA_SNAPSHOT: Final = Price(0.0000015046, "GB-second of a cached snapshot", _LAMBDA)
FIREHOSE: Final = Price(0.029, "GB, each record rounded up to 5 KB", "2026-09, Firehose pricing")
S3_PUT: Final = Price(0.005e-3, "request", _S3)
S3_GET: Final = Price(0.0004e-3, "request", _S3)
S3_STORAGE: Final = Price(0.023, "GB-month", _S3)
S3_GLACIER: Final = Price(0.004, "GB-month of Glacier Instant Retrieval", _S3)
DYNAMODB_WRITE: Final = Price(0.625e-6, "write of 1 KB on demand", "2026-09, DynamoDB pricing")
#: With the backups for point-in-time recovery, which cost 0.20.
DYNAMODB_STORAGE: Final = Price(0.45, "GB-month", "2026-09, DynamoDB pricing")
SQS: Final = Price(0.40e-6, "request", _PRICE_LIST)
_RDS_LIST: Final = "2026-05, Price List API by infracost"
_RDS_QUOTED: Final = "2026, list prices of two public price tables"
_AURORA_QUOTED: Final = "2025, list prices of two public price tables; the same for r7g and r8g"
#: The class `large` of a family, in one zone; other sizes cost in proportion.
RDS_LARGE: Final[Mapping[str, Price]] = {
    "t3": Price(0.145, "hour of db.t3.large", _RDS_LIST),
    "t4g": Price(0.129, "hour of db.t4g.large", "2026, infratally.com, twice db.t4g.medium"),
    "r7g": Price(0.239, "hour of db.r7g.large", _RDS_QUOTED),
    "r8g": Price(0.239, "hour of db.r8g.large", _RDS_QUOTED),
}
AURORA_LARGE: Final[Mapping[str, Price]] = {
    "t3": Price(0.164, "hour of db.t3.large", "2025-03, Price List API by infracost"),
    "r6g": Price(0.26, "hour of db.r6g.large", _AURORA_QUOTED),
    "r7g": Price(0.276, "hour of db.r7g.large", _AURORA_QUOTED),
    "r8g": Price(0.276, "hour of db.r8g.large", _AURORA_QUOTED),
}
AURORA_UNIT: Final = Price(0.12, "hour of a capacity unit", "2026-08, AWS's advisor for Aurora")
AURORA_STORAGE: Final = Price(0.10, "GB-month", "2025-03, Price List API by infracost")
AURORA_REQUEST: Final = Price(0.20e-6, "I/O request", "2025-03, Price List API by infracost")
#: Instances and units cost this much more if I/O is included.
AURORA_OPTIMIZED_FACTOR: Final = 1.3
AURORA_OPTIMIZED_STORAGE: Final = Price(0.225, "GB-month", "2026-08, AWS's advisor for Aurora")
RDS_STORAGE: Final = Price(0.115, "GB-month", "2026-05, half of Multi-AZ's 0.23")
DATABASE_PROXY: Final = Price(0.015, "vCPU-hour", "2026-08, AWS's advisor for RDS Proxy")
_VALKEY_QUOTED: Final = "unconfirmed: list price with Redis OSS, less a fifth"
#: The class `large` of a family of nodes with Valkey; other sizes cost in proportion.
CACHE_LARGE: Final[Mapping[str, Price]] = {
    "t4g": Price(0.104, "hour of two cache.t4g.medium", _VALKEY_QUOTED),
    "m7g": Price(0.1264, "hour of cache.m7g.large", _VALKEY_QUOTED),
    "r7g": Price(0.1752, "hour of cache.r7g.large", _VALKEY_QUOTED),
}
#: Without the price of its traffic, of which the sweep has very little.
ENDPOINT: Final = Price(0.01, "hour and zone of an interface endpoint", _PRICE_LIST)
_CLOUDWATCH: Final = "2026-08, aws.amazon.com/cloudwatch/pricing"
LOGS: Final = Price(0.50, "GB", _CLOUDWATCH)
LOG_STORAGE: Final = Price(0.03, "GB-month, compressed", _CLOUDWATCH)
METRIC: Final = Price(0.30, "month of a metric above ten", _CLOUDWATCH)
ALARM: Final = Price(0.10, "month of a metric of an alarm above ten", _CLOUDWATCH)
FREE_METRICS: Final = 10  # of an account, and as many of its alarms
TRACE: Final = Price(5.00e-6, "trace recorded", "2026-11, aws.amazon.com/xray/pricing")
KEY: Final = Price(1.00, "month of a customer managed key", "2026-03, aws.amazon.com/kms/pricing")
SECRET: Final = Price(0.40, "month of a secret, or of its copy", _PRICE_LIST)
WAF_FIXED: Final = Price(11.0, "month: one ACL and six rules", _PRICE_LIST)
WAF_REQUEST: Final = Price(0.60e-6, "request", _PRICE_LIST)
CLOUDFRONT_REQUEST: Final = Price(1.00e-6, "request above 10 million", "2026-09")
CLOUDFRONT_TRAFFIC: Final = Price(0.085, "GB above 1 TB", "2026-09")
CLOUDFRONT_FUNCTION: Final = Price(0.10e-6, "call above 2 million", "2026-10, a quoted list price")
CLOUDFRONT_READ: Final = Price(0.03e-6, "read of a KeyValueStore", "unconfirmed: 2023's list price")
TRAFFIC: Final = Price(0.09, "GB above 100 GB", "2024-07")
