"""The whole stack as one object: databases, read cache, emulator, Firehose server, gateway.

`make run` and the end-to-end tests use it as `with LocalStack(settings) as stack: …`. It has no
output; a listener can receive its events.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self, TypeVar, TypeVarTuple

import psycopg

from devtools import declarations, node
from forebay.errors import DeclarationError
from local import emulator, read_cache, recovery, servers
from local.aws import Emulated
from local.deployment import Deployed, Deployment
from local.errors import DeclarationsError, ToolFailedError
from local.events import Listener
from local.outputs import write_addresses
from local.ports import check_free
from local.postgres.config import locate_primary, locate_replica
from local.postgres.server import Servers
from local.processes import Child, Spec
from local.settings import MIN_FREE_BYTES, MIN_FREE_BYTES_RUNNING, LocalSettings
from local.state import check_free_space, keep_private, lock_state
from local.supervisor import Supervisor

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class LocalStack:
    """The one-machine stack: runs inside its `with` block, without leaving processes after it."""

    def __init__(
        self,
        settings: LocalSettings,
        listener: Listener | None = None,
        *,
        accepted: str | None = None,
    ) -> None:
        """Prepare a stack; `__enter__` starts it.

        Args:
            settings: contain the folders and the ports.
            listener: receives every event.
            accepted: the revision up to which migrations may drop or change data.
        """
        self.settings = settings
        self._accepted = accepted
        self.primary = locate_primary(settings)
        self.replica = locate_replica(settings)
        self._listener = listener or Listener()
        self._deployment = Deployment(settings, self.primary, self.replica)
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
            lock = resources.enter_context(
                lock_state(self.settings.state, on_wait=self._listener.remark)
            )
            keep_private(self.settings)
            self._check_surroundings()
            pool = ThreadPoolExecutor(thread_name_prefix="start")
            resources.callback(pool.shutdown)
            self._supervisor = Supervisor(keep_open=[lock])
            resources.enter_context(self._supervisor)
            resources.callback(self._stop)
            try:
                #: The names and ids of the deployed resources in the emulator.
                self.deployed = pool.submit(self._start, pool).result()
            except psycopg.Error as exc:
                raise ToolFailedError(
                    f"the database refused a statement of the start: {exc}"
                ) from exc
            self._open = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

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
            StateUnusableError: there is too little space left for accepted commands.
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
        """Start the servers, as concurrently as their dependencies allow."""
        settings, supervisor = self.settings, self._supervisor
        primary = pool.submit(self._start_primary)
        replica = pool.submit(self._start_replica, primary)
        cache = pool.submit(self._step, "read cache", read_cache.start, supervisor, settings)
        check = pool.submit(self._check_migrations, primary)
        if node.needs_install(settings.root):
            self._step("npm packages", supervisor.run, self._describe_install())
        kept_deployment = self._deployment.find_kept()
        if kept_deployment is None:
            check.result()  # The deployment migrates the database.
        deployed = kept_deployment or self._step("cdk deploy", self._deployment.make, supervisor)
        folder = self._deployment.prepare_folder()
        self._step("emulator", emulator.start, supervisor, settings, folder)
        primary.result()
        if kept_deployment:
            check.result()
            # The database may have been replaced since the deployment.
            self._step("migrations", Emulated.of(settings).invoke, deployed.functions["migrate"])
        write_addresses(settings)
        # Before the Firehose server delivers records: the restore needs an unwritten database.
        self._rebuild_lost(deployed)
        firehose = pool.submit(
            self._step, "Firehose server", servers.start_firehose, supervisor, settings
        )
        for step in (replica, cache, firehose):
            step.result()
        self._enqueue_missed(deployed)
        self._step("gateway", servers.start_gateway, supervisor, settings, deployed)
        # The API would refuse a request without credentials before the functions.
        if not self.requires_credentials:
            for problem in self._step("functions", servers.start_functions, settings):
                self._listener.remark(problem)
        return deployed

    def _step(
        self, name: str, call: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        with self._listener.step(name):
            return call(*arguments)

    def _check_surroundings(self) -> None:
        check_free_space(self.settings.state, MIN_FREE_BYTES)
        check_free(self.settings.ports)
        try:
            declarations.check_before_start(self.settings.root)
        except DeclarationError as exc:
            raise DeclarationsError(str(exc)) from exc

    def _start_primary(self) -> Child:
        with self._listener.step("Postgres primary") as notes:
            return self._postgres(notes.append).start_primary()

    def _start_replica(self, primary: Future[Child]) -> Child:
        primary.result()
        with self._listener.step("Postgres replica") as notes:
            return self._postgres(notes.append).start_replica()

    def _postgres(self, note: Callable[[str], None]) -> Servers:
        return Servers(self._supervisor, self.primary, self.replica, note)

    def _describe_install(self) -> Spec:
        """The installation of the CDK CLI, and of Swagger UI, a part of a function's package."""
        return Spec(
            name="npm ci",
            command=node.build_install_command(),
            log=self.settings.logs / "npm.log",
            env=node.build_environment(os.environ),
            cwd=self.settings.root,
        )

    def _check_migrations(self, primary: Future[Child]) -> None:
        # Alembic's import takes as long as the primary's start.
        from local import schema_changes  # noqa: PLC0415

        primary.result()
        url, port = self.primary.url(), self.settings.ports.base
        problem = schema_changes.check_before_start(url, self._accepted, port=port)
        if problem:
            self._listener.remark(problem)

    def _rebuild_lost(self, deployed: Deployed) -> None:
        """Rebuild a new database from an older archive."""
        url = self.primary.url()
        if not recovery.needs_rebuild(Emulated.of(self.settings), deployed, url):
            return
        arguments = (self._supervisor, self.settings, deployed, url)
        self._listener.remark(self._step("rebuild from the archive", recovery.rebuild, *arguments))

    def _enqueue_missed(self, deployed: Deployed) -> None:
        count = recovery.enqueue_missed(Emulated.of(self.settings), deployed, self.primary.url())
        if count:
            self._listener.remark(
                f"{count} archived objects were not applied yet and have been enqueued"
            )

    def _stop(self) -> None:
        self._stopping.set()
        self._supervisor.stop(hurry=self._hurry.is_set, listener=self._listener)
