"""List the fixture modules; each module in tests/fixtures holds the fixtures of one topic."""

import os

# Before `infra.settings` is imported, here and in the programs that tests start: no test of the
# product depends on the user's files in `infra/environments/`.
os.environ["FOREBAY_ENVIRONMENTS"] = "tests/project/environments"

pytest_plugins = [
    "tests.fixtures.collector",
    "tests.fixtures.interrupts",
    "tests.fixtures.properties",
    "tests.fixtures.reports",
    "tests.fixtures.emulator",
    "tests.fixtures.firehose",
    "tests.fixtures.gateway",
    "tests.fixtures.generators",
    "tests.fixtures.node",
    "tests.fixtures.postgres",
    "tests.fixtures.stack",
    "tests.fixtures.tables",
    "tests.fixtures.valkey",
    "tests.fixtures.reading",
    "tests.fixtures.about",
    "tests.fixtures.browser",
    "tests.fixtures.geonames",
    "tests.fixtures.operating",
    "tests.fixtures.site",
    "tests.fixtures.doors",
    "tests.fixtures.guarded",
    "tests.fixtures.previous",
    "tests.fixtures.consumer",
    "tests.fixtures.faults",
    "tests.fixtures.faulty",
    "tests.fixtures.migrating",
]
