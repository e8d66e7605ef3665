"""``python -m tests.benchmarks``: how fast the queue is, and what it costs while it does nothing.

No test: nothing here passes or fails, and the suite never runs it. Each run is a process of its own with freshly
cleared tables; the table shows the median of ``--repeat`` runs beside the least and the greatest. Servers are private
ones with durable settings (fsync on, the vendor's defaults), SQLite's file is in a temporary directory; what a commit
costs there, and how much of the machine other programs used meanwhile, is printed with the figures. Everything (client,
worker, servers) shares the machine's cores. The task does nothing; its row is recorded, its result stored.

With ``--broker amqp`` or ``redis`` workers hear of tasks through a private RabbitMQ, with a durable queue and persistent
messages, or a private Redis that writes each command to its disk (``appendfsync always``). What follows holds there as
well: an enqueue is over when its reference is published, confirmed by RabbitMQ, answered by Redis.

``enqueue``
    ``noop.enqueue()`` N times in one thread over one open connection, each in a transaction of its own; no worker
    runs. N through the seconds of the loop.
``enqueue-many``
    One ``noop.enqueue_many()`` of N calls, from the call to its return, which is after the commit; no worker runs.
``drain``
    N tasks are enqueued, then a worker is started (``runworker --processes P``, as users start it, its log lines going
    to a file). The rate is N through the time from the first claim to the last end: ``max(finished_at) -
    min(started_at)``, both written by the database, the last one as its statement begins. "From the start" counts
    from the moment the worker was started instead, so it includes the start of Python and Django. The client asks for
    the state of the last row each 0.1 s and does nothing else. Every row must have ended SUCCESSFUL. CPU per task: of
    the worker's processes but the supervisor since they were forked, and of the servers' processes since the worker was
    started. On PostgreSQL also transactions, on MariaDB statements, per 1,000 tasks, less the client's own.
``history``
    With ``--history H``: the drain once more with H finished rows of other tasks in the table (a thousand different
    ends over the last six days, vacuumed and analysed), and what share of the first rate that is, run by run.
``round-trip``
    ``noop.enqueue().get()`` again and again in one thread, with a running worker that has nothing else to do: p50 and
    p95, first back to back, then with a pause of 1 s before each call.
``in-flight``
    The same in 32 threads at once, each with a connection of its own: round trips a second in all, p50 and p95.
``idle``
    A worker that has run 100 tasks and then had nothing to do for 12 s, over the next 30 s (``--idle-seconds``):
    transactions a second in its database (pg_stat_database; autovacuum's few are among them) or statements a second
    (MariaDB's Questions); CPU seconds of all its processes (clock_getcpuclockid(3)); the sum of their PSS at the end
    (smaps_rollup), and how much of that is anonymous memory. The client does nothing meanwhile, but as it is Python
    too, file-backed pages are shared with it: the anonymous part does not depend on who else runs. With a message
    broker also the CPU seconds of its processes.
``unrecorded-enqueue``, ``unrecorded-enqueue-many``, ``unrecorded-unconfirmed``
    With a message broker only. As above for ``tick``, a task with ``record=False`` in an alias with the results
    ``disabled://``, so that there is nothing but its message; the last one with ``confirm=False`` (RabbitMQ only, since
    Redis answers each command), again one by one. Afterwards every message must be in the queue.
``unrecorded-drain``
    The drain of such tasks. Each notes in memory that it ran, a microsecond's work; the rate is N through the time from
    the first note to the last, the client looks at the notes each 0.1 s. Once the worker has ended, as many must have
    run as were enqueued, and the queue must be empty.
``rpc-round-trip``, ``rpc-in-flight``, ``rpc-threads``, ``rpc-recorded``
    With a message broker only, and the results ``rpc://``: ``enqueue().get()`` of a task that does nothing, without a row
    but for the last. In one thread as ``round-trip``; then with 32 calls under way all the time, again in one thread,
    which waits for the oldest and enqueues the next; then in 16 threads, one call after the other in each, where the rate
    is that through the time of the thread that took longest. Beside other programs these say little: threads that wait
    for each other wait for the machine, too. What holds there is what a call costs, by ``perf stat -e instructions:u -p
    PID`` of the caller and of the worker's processes; or, on any machine, how they compare with a peer's in the same
    minutes.
``rpc-drain``
    N tasks without rows are enqueued, then a worker is started, and the client waits for one after the other. The rate is
    N through the time from the first note of a task to the last reply in the client's hands.

What is measured is a copy of this tree's package, made at the start, or with ``--commit`` that of a commit. ``--compare
COMMIT`` runs the package of another commit in alternation with it, with this tree's benchmarks and settings, each on a
database and in a virtual host of its own, and prints the ratios of the runs that followed each other.

``--peer celery`` runs another program in alternation, in the same way, where it can do the same: ``rpc-round-trip``,
``rpc-in-flight``, ``rpc-threads`` and ``rpc-drain`` over RabbitMQ. The table then has its median, the median of the ratios
of the runs that followed each other, ours / the peer's, and the goal as such a ratio, where the goal was set beside the
peer's figure, on the same machine.

Celery is that of this environment, without Django, with its own defaults (JSON, a durable queue, persistent messages
that it does not let RabbitMQ confirm, acks before the run) but for these: ``result_backend="rpc://"``, P processes in its
pool, ``--without-gossip --without-mingle``, and no log line for a task that was received, so that its worker, too, writes
one a task. Its client is a process of its own. It gets a quarter of ``--tasks`` and ``--in-flight-tasks``, since it takes
so much longer for them. Of its drain there is no CPU of the worker: the start of Python is part of what its first process
used, which reads the queue for the others.

In threads Celery may lose replies. A call that is not there after 5 s, or fails in another way, is counted as lost; a
thread that has lost three gives up. What was waited for lost ones is left out of the rate and of the percentiles, in
Celery's favour. Elsewhere, and with ours, a call that is lost ends the run.
"""
