"""Lists the fixtures; they live by topic in tests/fixtures."""

pytest_plugins = [
    "tests.fixtures.interrupts",
    "tests.fixtures.properties",
    "tests.fixtures.emulator",
    "tests.fixtures.firehose",
    "tests.fixtures.gateway",
    "tests.fixtures.node",
    "tests.fixtures.postgres",
    "tests.fixtures.stack",
    "tests.fixtures.tables",
    "tests.fixtures.reading",
    "tests.fixtures.about",
    "tests.fixtures.browser",
    "tests.fixtures.geonames",
    "tests.fixtures.operating",
    "tests.fixtures.site",
    "tests.fixtures.guarded",
    "tests.fixtures.previous",
    "tests.fixtures.consumer",
    "tests.fixtures.faults",
    "tests.fixtures.faulty",
]
