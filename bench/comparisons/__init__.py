"""The comparisons: a module each, with `compare(stage) -> Findings`."""

#: In the order in which they run and are shown.
NAMES = (
    "apply",
    "peers",
    "write_warm",
    "bulk_post",
    "read_warm",
    "starts",
    "bytecode",
    "assets",
    "pages",
    "connections",
    "growth",
    "rebuild",
)
#: Those that take more than some minutes, run when they are named or asked for by `--long`.
LONG = frozenset({"rebuild"})
