"""Cold starts: a fresh process imports a function and creates its clients.

The measured time begins when Python has started. It ends with the answer to a first request (read),
or when the function could take one (write). A function starts from its package, as on Lambda. Both
sides have cached bytecode.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench import cities
from bench.harness import Aim, Contender, Findings, duration, measure
from bench.stage import Stage
from infra.bundling import build_asset

ROUNDS = 15
WRITE, BOTO3 = "write function", "boto3 and its Firehose client"
READ, PSYCOPG = "read function", "psycopg and a connection"

_TIMED = "import time; started = time.perf_counter()\n{}\nprint(time.perf_counter() - started)"
_WRITE = "import lambdas.write.handler"
_BOTO3 = "import boto3; boto3.client('firehose')"
_READ = """
import json, sys
from lambdas.read.handler import lambda_handler
sys.stdout, out = sys.stderr, sys.stdout
headers = {"Accept": "application/json"}
answer = lambda_handler({
  "httpMethod": "GET", "resource": "/cities/{key}", "path": "/cities/1", "headers": headers,
  "pathParameters": {"key": "1"}, "queryStringParameters": None, "requestContext": {}}, None)
sys.stdout = out
assert answer["statusCode"] == 404, answer
"""
_PSYCOPG = """
import os, psycopg
connection = psycopg.connect(os.environ["FOREBAY_REPLICA_URL"], autocommit=True)
assert connection.execute("SELECT name FROM cities WHERE geonameid = 1").fetchall() == []
"""


def compare(stage: Stage) -> Findings:
    """Measure fresh processes in sequence."""
    with stage.database() as database, tempfile.TemporaryDirectory() as packages:
        cities.fill(database)
        write_package, read_package = Path(packages, "write"), Path(packages, "read")
        build_asset("write", write_package, with_dependencies=False)
        build_asset("read", read_package, with_dependencies=False)
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "FOREBAY_ENV": "bench",
            "FOREBAY_STREAMS": "commands",
            "FOREBAY_ARCHIVE_BUCKET": "archive",
            "FOREBAY_DATABASE_URL": database.url,
            "FOREBAY_REPLICA_URL": database.url,
            "FOREBAY_AUTHORIZATION": "none",
        }
        programs = {
            WRITE: (_WRITE, write_package),
            BOTO3: (_BOTO3, write_package),
            READ: (_READ, read_package),
            PSYCOPG: (_PSYCOPG, read_package),
        }
        contenders = [
            Contender(name, partial(_time_process, program, folder, environment), 1)
            for name, (program, folder) in programs.items()
        ]
        series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    findings = Findings(series)
    findings.ratios = [
        duration("write function, cold", series, WRITE, BOTO3, Aim(at_most=1.25)),
        duration("read function, cold, first item", series, READ, PSYCOPG, Aim(at_most=2)),
    ]
    findings.facts["milliseconds_at_best"] = {
        timing.name: round(1000 * min(timing.seconds)) for timing in series
    }
    return findings


def _time_process(program: str, folder: Path, environment: Mapping[str, str]) -> float:
    process = subprocess.run(  # noqa: S603 - our own programs
        [sys.executable, "-c", _TIMED.format(program)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(process.stdout)
