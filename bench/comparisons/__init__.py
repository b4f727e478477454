"""The comparisons: a module each, with `compare(stage) -> Findings`."""

#: In the order in which they run and are shown.
NAMES = (
    "apply",
    "peers",
    "write_warm",
    "bulk_post",
    "read_warm",
    "read_cache_replica",
    "starts",
    "bytecode",
    "assets",
    "pages",
    "connections",
    "growth",
    "rebuild",
)
#: Comparisons that take more than some minutes; they run if they are named, or with `--long`.
LONG = frozenset({"rebuild"})
