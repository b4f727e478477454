"""Reload the functions after a change of their sources, without a deployment.

Watches the sources of the functions' packages, rebuilds changed packages in memory with the CDK
app's own bundling code, and uploads them to the emulator, which then starts fresh workers.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from watchfiles import PythonFilter, watch

from forebay.errors import ForebayError
from infra.bundling import PACKAGES, list_sources, zip_asset
from infra.settings import PACKAGE_OF, FunctionName
from local import read_cache, servers
from local.aws import Emulated
from local.deployment import Deployed
from local.errors import ToolFailedError
from local.events import Listener
from local.postgres.config import locate_primary
from local.schema_changes import take_over
from local.settings import LocalSettings

_WATCHED = ("lambdas", "forebay", "resources", "migrations")
# Editors save in several steps within a few milliseconds.
_QUIET_MILLISECONDS = 50
_TICK_MILLISECONDS = 200


class Reloader:
    """Replaces the packages of running functions with changed sources."""

    def __init__(self, settings: LocalSettings, deployed: Deployed, listener: Listener) -> None:
        """Make a reloader of a deployment; it reports reloads and failures to the listener."""
        self._settings = settings
        self._deployed = deployed
        self._listener = listener
        self._emulated = Emulated.of(settings)
        self._running: Mapping[FunctionName, bytes] = {}

    def begin(self, is_current: Callable[[], bool]) -> None:
        """Record the running packages, and reload the changes since the deployment.

        Args:
            is_current: whether the sources are those of the deployment. Called after they have been
                read: a change in between causes an unnecessary reload, not a missing reload.
        """
        packages = self._build_packages()
        if is_current():
            self._running = packages
        self.reload()

    def reload(self, changed: Collection[Path] = ()) -> None:
        """Update the functions to the current sources; report the result in one line.

        If a source can't be compiled, all functions keep their code.
        """
        start = time.monotonic()
        try:
            problem = self._find_syntax_problem()
            if problem:
                self._listener.remark(f"not reloaded, the old code stays active: {problem}")
                return
            names = self._replace()
            if "read" in names:
                read_cache.empty(self._settings)
            if "migrate" in names:
                self._migrate()
        except (OSError, ToolFailedError, ForebayError, psycopg.Error) as exc:
            self._listener.remark(f"not reloaded: {exc}")
            return
        if names:
            servers.flush_cache(self._settings)
            seconds = time.monotonic() - start
            self._listener.remark(f"reloaded {', '.join(names)} ({seconds:.1f} s)")
        if any("resources" in path.parts for path in changed):
            self._listener.remark(
                "new routes and new cached parameters take effect at the next start"
            )

    def _replace(self) -> list[FunctionName]:
        packages = self._build_packages()
        names = [name for name in packages if packages[name] != self._running.get(name)]
        for name in names:
            self._emulated.update_code(self._deployed.functions[name], packages[name])
            self._running = {**self._running, name: packages[name]}
        return names

    def _migrate(self) -> None:
        """Run new migrations that only add; report the migrations that wait."""

        def run(revisions: Sequence[str]) -> None:
            self._emulated.invoke(self._deployed.functions["migrate"], {"revisions": revisions})

        url, port = locate_primary(self._settings).url(), self._settings.ports.base
        waiting = take_over(url, run, port=port)
        if waiting:
            self._listener.remark(waiting)

    def _build_packages(self) -> Mapping[FunctionName, bytes]:
        zipped = {package: zip_asset(package, self._settings.root) for package in PACKAGES}
        return {name: zipped[package] for name, package in PACKAGE_OF.items()}

    def _find_syntax_problem(self) -> str | None:
        files: dict[str, Path] = {}
        for package in PACKAGES:
            files |= list_sources(package, self._settings.root)
        for name, path in files.items():
            if path.suffix != ".py":
                continue
            try:
                compile(path.read_bytes(), name, "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as exc:
                line = f":{exc.lineno}" if isinstance(exc, SyntaxError) else ""
                reason = exc.msg if isinstance(exc, SyntaxError) else exc
                return f"{name}{line}: {reason}"
        return None


@contextmanager
def reload_in_background(
    reloader: Reloader, root: Path, is_current: Callable[[], bool]
) -> Iterator[None]:
    """Reload changed sources of the checkout in the background while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(reloader, root, is_current, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(
    reloader: Reloader, root: Path, is_current: Callable[[], bool], stop: threading.Event
) -> None:
    is_begun = False
    for changed in watch(
        *(root / name for name in _WATCHED),
        watch_filter=PythonFilter(),
        step=_QUIET_MILLISECONDS,
        # The first result, even without changes, shows that the watch has started.
        yield_on_timeout=True,
        rust_timeout=_TICK_MILLISECONDS,
        stop_event=stop,
        raise_interrupt=False,
    ):
        if not is_begun:
            reloader.begin(is_current)
            is_begun = True
        if changed:
            reloader.reload([Path(path) for _, path in changed])
