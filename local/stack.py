"""The whole stack as one object: databases, read cache, emulator, Firehose server, gateway.

`make run` and the end-to-end tests use it as `with LocalStack(settings) as stack: …`. It has no
output; a listener can receive its events.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

import psycopg

from devtools import declarations, node
from forebay.errors import DeclarationError
from local import emulator, read_cache, recovery, servers
from local.aws import Emulated
from local.deployment import Deployed, Deployment
from local.errors import DeclarationsError, ToolFailedError
from local.events import Listener, Remark, ignore, report_step
from local.outputs import write_addresses
from local.ports import check_free
from local.postgres.config import locate_primary, locate_replica
from local.postgres.server import Servers
from local.processes import Child, Spec
from local.settings import MIN_FREE_BYTES, MIN_FREE_BYTES_RUNNING, LocalSettings
from local.state import check_free_space, keep_private, lock_state
from local.supervisor import Supervisor


class LocalStack:
    """The one-machine stack: runs inside its `with` block, without leaving processes after it."""

    def __init__(
        self, settings: LocalSettings, listener: Listener = ignore, *, accepted: str | None = None
    ) -> None:
        """Prepare a stack; `__enter__` starts it.

        Args:
            settings: contain the folders and the ports.
            listener: called with every event.
            accepted: the revision up to which migrations may drop or change data.
        """
        self.settings = settings
        self._accepted = accepted
        self.primary = locate_primary(settings)
        self.replica = locate_replica(settings)
        self._listener = listener
        self._deployment = Deployment(settings, self.primary, self.replica)
        self._deployed: Deployed | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Start all servers.

        Other threads run the steps. Python handles signals in the main thread, so a signal can
        interrupt the main thread's wait, but never a step between starting a process and
        registering it.

        Raises:
            LocalStackError: a part can't be started, with the reason. All processes are stopped.
        """
        with ExitStack() as resources:
            lock = resources.enter_context(lock_state(self.settings.state, on_wait=self._remark))
            keep_private(self.settings)
            self._check_surroundings()
            self._check_declarations()
            pool = ThreadPoolExecutor(thread_name_prefix="start")
            resources.callback(pool.shutdown)
            self._supervisor = Supervisor(keep_open=[lock])
            resources.enter_context(self._supervisor)
            resources.callback(self._stop)
            self._deployed = pool.submit(self._start, pool).result()
            self._open = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def base_url(self) -> str:
        """The API's address for clients, with the stage."""
        return self.settings.base_url

    @property
    def deployed(self) -> Deployed:
        """The names and ids of the deployed resources in the emulator."""
        if self._deployed is None:
            raise RuntimeError("the stack is not running")
        return self._deployed

    @property
    def requires_credentials(self) -> bool:
        """True if the API requires credentials or an API key of its callers."""
        return self._deployment.requires_credentials()

    def is_current(self) -> bool:
        """Return whether the deployment was made from the current sources."""
        return self._deployment.find_kept() is not None

    def check(self) -> None:
        """Check that the stack can go on.

        Raises:
            ChildDiedError: a server has ended unexpectedly.
            DiskFullError: there is too little space left for accepted commands.
        """
        check_free_space(self.settings.state, MIN_FREE_BYTES_RUNNING)
        self._supervisor.check()

    def is_stopping(self) -> bool:
        """Return whether the stop has begun, for any reason."""
        return self._stopping.is_set()

    def hurry(self) -> None:
        """Make a stop, now or later, skip the orderly end of the processes."""
        self._hurry.set()

    def _start(self, pool: ThreadPoolExecutor) -> Deployed:
        try:
            return self._start_servers(pool)
        except psycopg.Error as exc:
            raise ToolFailedError(f"the database refused a statement of the start: {exc}") from exc

    def _start_servers(self, pool: ThreadPoolExecutor) -> Deployed:
        """Start the servers, as concurrently as their dependencies allow."""
        primary = pool.submit(self._start_primary)
        replica = pool.submit(self._start_replica, primary)
        cache = pool.submit(self._start_read_cache, primary)
        check = pool.submit(self._check_migrations, primary)
        self._install_packages()
        kept_deployment = self._deployment.find_kept()
        deployed = kept_deployment or self._deploy(check)
        self._start_emulator()
        primary.result()
        if kept_deployment:
            check.result()
            self._migrate(deployed)
        write_addresses(self.settings)
        # Before the Firehose server delivers records: the restore needs an unwritten database.
        self._rebuild_lost(deployed)
        firehose = pool.submit(self._start_firehose)
        replica.result()
        cache.result()
        firehose.result()
        self._enqueue_missed(deployed)
        self._start_gateway(deployed)
        self._start_functions()
        return deployed

    def _check_surroundings(self) -> None:
        check_free_space(self.settings.state, MIN_FREE_BYTES)
        check_free(self.settings.ports)

    def _check_declarations(self) -> None:
        try:
            declarations.check_before_start(self.settings.root)
        except DeclarationError as exc:
            raise DeclarationsError(str(exc)) from exc

    def _start_primary(self) -> Child:
        with report_step("Postgres primary", self._listener) as notes:
            return self._postgres(notes.append).start_primary()

    def _start_replica(self, primary: Future[Child]) -> Child:
        primary.result()
        with report_step("Postgres replica", self._listener) as notes:
            return self._postgres(notes.append).start_replica()

    def _start_read_cache(self, primary: Future[Child]) -> Child:
        primary.result()
        with report_step("read cache", self._listener):
            return read_cache.start(self._supervisor, self.settings)

    def _postgres(self, note: Callable[[str], None]) -> Servers:
        return Servers(self._supervisor, self.primary, self.replica, note)

    def _deploy(self, check: Future[None]) -> Deployed:
        # The deployment migrates the database.
        check.result()
        with report_step("cdk deploy", self._listener):
            return self._deployment.make(self._supervisor)

    def _install_packages(self) -> None:
        """Install the CDK CLI, and Swagger UI, which is part of a function's package."""
        settings = self.settings
        if node.needs_install(settings.root):
            with report_step("npm packages", self._listener):
                self._supervisor.run(
                    Spec(
                        name="npm ci",
                        command=node.build_install_command(),
                        log=settings.logs / "npm.log",
                        env=node.build_environment(os.environ),
                        cwd=settings.root,
                    )
                )

    def _start_emulator(self) -> Child:
        with report_step("emulator", self._listener):
            return emulator.start(
                self._supervisor,
                self.settings,
                self._deployment.list_serving_folders(),
                name="emulator",
            )

    def _check_migrations(self, primary: Future[Child]) -> None:
        # Alembic's import takes as long as the primary's start.
        from local import schema_changes  # noqa: PLC0415

        primary.result()
        url, port = self.primary.url(), self.settings.ports.base
        problem = schema_changes.check_before_start(url, self._accepted, port=port)
        if problem:
            self._remark(problem)

    def _migrate(self, deployed: Deployed) -> None:
        """Migrate the database, which may have been replaced since the kept deployment."""
        with report_step("migrations", self._listener):
            Emulated(self.settings).invoke(deployed.functions["migrate"])

    def _rebuild_lost(self, deployed: Deployed) -> None:
        """Rebuild a new database from an older archive."""
        url = self.primary.url()
        if not recovery.needs_rebuild(Emulated(self.settings), deployed, url):
            return
        with report_step("rebuild from the archive", self._listener):
            result = recovery.rebuild(self._supervisor, self.settings, deployed, url)
        self._remark(result)

    def _enqueue_missed(self, deployed: Deployed) -> None:
        count = recovery.enqueue_missed(Emulated(self.settings), deployed, self.primary.url())
        if count:
            self._remark(f"{count} archived objects were not applied yet and have been enqueued")

    def _start_firehose(self) -> Child:
        with report_step("Firehose server", self._listener):
            return servers.start_firehose(self._supervisor, self.settings)

    def _start_gateway(self, deployed: Deployed) -> Child:
        with report_step("gateway", self._listener):
            return servers.start_gateway(self._supervisor, self.settings, deployed)

    def _start_functions(self) -> None:
        with report_step("functions", self._listener):
            problems = servers.start_functions(
                self.settings, requires_credentials=self.requires_credentials
            )
        for problem in problems:
            self._remark(problem)

    def _stop(self) -> None:
        self._stopping.set()
        self._supervisor.stop(hurry=self._hurry.is_set, listener=self._listener)

    def _remark(self, text: str) -> None:
        self._listener(Remark(text))
