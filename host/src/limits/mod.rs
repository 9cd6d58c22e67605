//! Every bound that Hearth keeps, with its unit and its reason; their relations are checked when
//! it is compiled ([`relations`]).
//!
//! What a configuration may choose stands here too, as the default and the furthest it may go.

mod relations;

use std::time::Duration;

/// The longest an invocation may take that a configuration may ask for: Lambda's own limit.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(900);
/// The same on Lambda Managed Instances, for asynchronous invocations.
pub const TIMEOUT_MAX_MANAGED: Duration = Duration::from_secs(90 * 60);
/// What an invocation may take on the local host, where nothing else is said.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long before its deadline an invocation is ended, so that the answer arrives in time and the
/// database connection can be settled: at most this, and at most a tenth of the time it has.
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(100);

/// Lambda's limit for an event, in bytes.
pub const EVENT_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Lambda's limit for an answer, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024 + 100;
/// Lambda's limit for an answer that is streamed, in bytes.
pub const STREAM_BYTES_MAX: usize = 200 * 1024 * 1024;
/// What is taken from a guest that streams in one piece, in bytes.
pub const STREAM_PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait between a guest that streams and whoever reads.
pub const STREAM_PIECES: usize = 1;
/// The head of a reply of the Runtime API, in bytes: Lambda's own limit for one.
pub const API_HEAD_BYTES_MAX: usize = 1024 * 1024;
/// Headers that a reply of the Runtime API may have.
pub const API_HEADERS_MAX: usize = 512;
/// Lambda's limit for an event that is invoked asynchronously, in bytes.
pub const EVENT_ASYNC_BYTES_MAX: usize = 1024 * 1024;

/// The largest client context, in bytes of base64, as Lambda has it.
pub const CLIENT_CONTEXT_BYTES_MAX: usize = 3_583;

/// What the frames of a payload in `aws-chunked` may take besides it, in bytes. One has about 100, and
/// 8 KiB of the payload at least.
pub const FRAMES_BYTES_MAX: usize = 128 * 1024;
/// What the local host refuses is read up to here, in bytes, since most clients look for an answer only after they
/// have sent everything.
pub const REFUSED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events that the local host has accepted and is not done with, retries included.
pub const EVENTS_PENDING_MAX: usize = 1_000;
/// How long such an event waits before its second and its third attempt.
pub const EVENT_RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// A random share is taken off counts and times, so that what was made together does not end together: at most
/// one part in so many.
pub const JITTER_PART: f64 = 10.0;
/// Instances of one function at a time, where nothing else is said.
pub const INSTANCES_DEFAULT: u32 = 8;
/// Instances of one function that a configuration may ask for.
pub const INSTANCES_MAX: u32 = 1_000;
/// Invocations that may share one instance.
pub const CONCURRENCY_MAX: u32 = 1_000;
/// Invocations that may have left work in one instance; what further ones leave is finished first. One that
/// only sleeps holds four handles.
pub const SUSPENDED_MAX: u32 = 100;
/// A timer that fires later than this means that the process was frozen.
pub const TIMER_LATE_MAX: Duration = Duration::from_secs(1);
/// Memory of one instance, in MiB, where nothing else is said.
pub const MEMORY_MIB_DEFAULT: u32 = 128;
/// Memory of one instance that a configuration may ask for, in MiB: what a 32-bit guest can reach.
pub const MEMORY_MIB_MAX: u32 = 4_096;
/// Elements of all of an instance's tables.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// What each invocation's temporary directory may hold, in MiB, that a configuration may ask for. It is
/// kept in memory.
pub const TEMPORARY_MIB_MAX: u32 = 4_096;
/// The unit in which a temporary directory is charged, in bytes: one for each entry, and one for each that a
/// file has begun.
pub const TEMPORARY_PAGE_BYTES: usize = 4 * 1024;
/// What is read or written in a temporary directory in one call, in bytes.
pub const TEMPORARY_PIECE_BYTES: usize = 64 * 1024;
/// One name in a temporary directory, in bytes, as on Linux. A page is charged for it.
pub const TEMPORARY_NAME_BYTES_MAX: usize = 255;
/// One path in a temporary directory, in bytes, as on Linux.
pub const TEMPORARY_PATH_BYTES_MAX: usize = 4_096;
/// Stack of a guest, in bytes. Its fiber has `FIBER_STACK_BYTES`, which the host's own frames share.
pub const GUEST_STACK_BYTES: usize = 1024 * 1024;
/// Stack of the fiber on which a guest runs, in bytes.
pub const FIBER_STACK_BYTES: usize = 2 * 1024 * 1024;
/// How much of a fiber's stack stays in memory for its next user, in bytes: enough for a guest that does not
/// recurse deeply.
pub const FIBER_STACK_BYTES_KEPT: usize = 32 * 1024;
/// What one call from a guest to the host may carry, in bytes.
pub const HOST_CALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a guest may ask for of random numbers at a time, in bytes. Nothing interrupts that.
pub const RANDOM_BYTES_MAX: u64 = 1024 * 1024;
/// Handles (databases, transactions, cursors, WASI streams) that an instance may hold at a time.
pub const HANDLES_MAX: usize = 1_000;
/// How many more it may hold for each further invocation that it may handle at the same time.
pub const HANDLES_MORE: usize = 100;
/// Invocations after which an instance is retired, where nothing else is said. Each instance draws
/// its own number up to a tenth lower, so that they do not all retire together.
pub const INVOCATIONS_PER_INSTANCE_DEFAULT: u64 = 100_000;
/// Age at which an instance is retired, where nothing else is said.
pub const INSTANCE_AGE_DEFAULT: Duration = Duration::from_secs(4 * 60 * 60);
/// How often a running guest is asked to look at the clock and to let others run.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);
/// How long in all an invocation that shares its instance may compute past its deadline, or stay in one call to
/// the host that blocks its neighbours.
pub const OVERRUN_MAX: Duration = Duration::from_millis(50);

/// Connections to one database, where nothing else is said: as many as there may be invocations at a
/// time, and at least these.
pub const POOL_DEFAULT: u32 = 8;
/// Connections to one database that a configuration may ask for.
pub const POOL_MAX: u32 = 1_000;
/// What is read of what a server has said unasked on a connection that rests, in bytes, before that
/// is used. Notices and settings are short; notifications could be many.
pub const UNASKED_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may serve, by wall clock, where nothing else is said; each draws up to a tenth less.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// How long connecting may take, where nothing else is said.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// What a server may say during a login, in bytes; a real one needs about 500.
pub const LOGIN_BYTES_MAX: usize = 256 * 1024;
/// What is read at once during a login, in bytes: most fit, and what is left of it is not much.
pub const LOGIN_READ_BYTES: usize = 4 * 1024;
/// A password or a token, in bytes. A token of RDS is about 2,000 long.
pub const PASSWORD_BYTES_MAX: usize = 16 * 1024;
/// What is read of a file of passwords, in bytes: one has a line for each server.
pub const PASSFILE_BYTES_MAX: usize = 1024 * 1024;
/// The credentials that are fetched for a token, in bytes. Session tokens have about 2,000.
pub const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;
/// How long a command that prints the password may take; connecting may have less.
pub const PASSWORD_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a new password is looked for at its source after one that was right once is refused, even if the
/// source still has the same: whoever rotates it changes the role before the source.
pub const ROTATION_PATIENCE: Duration = Duration::from_secs(2);
/// The pause before it is looked for again.
pub const ROTATION_PAUSE: Duration = Duration::from_millis(500);
/// The first pause before another attempt to log in where the server says that it takes no
/// connection now, or lets in and hangs up; each is twice as long, up to `LOGIN_PAUSE_MAX`, of which half is chance.
pub const LOGIN_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to log in.
pub const LOGIN_PAUSE_MAX: Duration = Duration::from_millis(500);
/// A look-up of a host's name that takes longer than this is not shared any more: the next one who needs it
/// starts another.
pub const LOOK_UP_PATIENCE: Duration = Duration::from_secs(1);
/// How many runs of the same work may be under way at a time, where an earlier one may be stuck.
pub const SINGLE_FLIGHT_MAX: usize = 3;
/// How often a wait for a new connection checks whether that is in vain while another connection has become
/// idle. Also, how long an invocation that holds all connections, waits for one more and does nothing on its
/// own is let wait, before it is told that it waits for itself.
pub const LOOK_AROUND: Duration = Duration::from_millis(100);
/// How long a host has for a login before the next one is tried, if whoever wants the connection has so long.
pub const LOGIN_SHARE_MIN: Duration = Duration::from_millis(100);
/// How long a new connection may take before one that has become idle is taken in its place.
pub const LOGIN_SILENCE: Duration = Duration::from_secs(1);
/// How long servers that are gone, or of another kind than is wanted, are asked again where another one may be
/// about to take their place, from when all were tried once; a third of what connecting may take at most. A promotion
/// takes about a second.
pub const FAILOVER_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a connection may be silent before the system asks whether the peer is there, where the
/// address says nothing else. Middleboxes forget a connection after 350 s.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// How often the system then asks, where the address says nothing else.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How many questions without an answer mean that the peer is gone, where the address says nothing else.
pub const KEEPALIVE_COUNT: u32 = 3;
/// How long sent data may stay unacknowledged before the peer is taken to be gone, where the address says
/// nothing else (`tcp_user_timeout`): longer than a brief outage of a network.
pub const UNRECEIVED_TIMEOUT: Duration = Duration::from_secs(8);
/// A request larger than this, in bytes, does not have that limit: a server that waits for a lock does not
/// read, and is not gone. The system's buffers hold as much as this meanwhile.
pub const REQUEST_BYTES_HELD: u64 = 32 * 1024;
/// What each of a connection's two buffers may keep in memory when the server owes nothing, in bytes.
pub const WIRE_BYTES_KEPT: usize = 256 * 1024;
/// After a text longer than this, in bytes, has been judged, other tasks get a turn before the next text.
pub const SQL_BYTES_AT_ONCE: usize = 64 * 1024;
/// How long a request to cancel may take.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection, where nothing else is said.
pub const STATEMENTS_DEFAULT: u32 = 256;
/// Prepared statements kept per connection that a configuration may ask for.
pub const STATEMENTS_MAX: u32 = 10_000;
/// The texts of those that are kept and what is known of them, in bytes, on one connection and of one database.
pub const STATEMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long what the server said of types that can be altered is relied on, by wall clock, before it is asked again.
pub const TYPES_TRUSTED: Duration = Duration::from_secs(60);
/// SQL text of one statement, in bytes.
pub const SQL_BYTES_MAX: usize = 1024 * 1024;
/// Steps that PostgreSQL's scanner may take for the operators and comments of one text, during which it cannot
/// be cancelled: the sum of the squares of their lengths. A run of 10,000 characters takes as many, or a
/// mebibyte of banners of 80.
pub const SQL_SCAN_STEPS_MAX: u64 = 100_000_000;
/// What the calls of one invocation may hold together in SQL, arguments and data of a `COPY` while they wait or
/// are sent, in bytes.
pub const CALLS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Savepoints of one transaction that are remembered, while it has rows that are not read.
pub const SAVEPOINTS_MAX: usize = 1_000;
/// Parameters of one statement: PostgreSQL's own limit.
pub const PARAMETERS_MAX: usize = 65_535;
/// The name of a role, a setting or a savepoint, in bytes: PostgreSQL's own limit.
pub const IDENTIFIER_BYTES_MAX: usize = 63;
/// Texts that a permission remembers to allow, for each function and database; others are read again.
pub const JUDGED_MAX: usize = 256;
/// Such a text, in bytes: reading a long one is little beside what the server does with it.
pub const JUDGED_BYTES_MAX: usize = 16 * 1024;
/// The value of a setting that the host puts in force, in bytes.
pub const SETTING_BYTES_MAX: usize = 4 * 1024;
/// What a component may declare in queries, in bytes, their texts and all that is said of them.
pub const DECLARED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows that a guest receives in one batch, in bytes, unless one row alone is larger.
pub const BATCH_BYTES: usize = 256 * 1024;
/// A batch that has this many bytes is handed to the guest rather than wait for more to fill it: the guest
/// works on it while the server works on the next.
pub const BATCH_BYTES_EAGER: usize = 32 * 1024;
/// What a guest may ask for in one batch, in bytes.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows that are read before the guest asks for them, so that another call can use the connection, in bytes;
/// the last row may go beyond.
pub const BUFFERED_ROWS_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Rows in one batch, for rows that have no columns and so no bytes.
pub const BATCH_ROWS_MAX: u32 = 1_000_000;
/// Rows that are fetched from a portal at first, before it is known how large they are.
pub const PORTAL_ROWS_FIRST: u32 = 500;
/// Rows that are fetched from a portal at a time.
pub const PORTAL_ROWS_MAX: u32 = 20_000;
/// Calls in one pipeline.
pub const PIPELINE_CALLS_MAX: usize = 1_000;
/// The rows of all calls of a pipeline, in bytes.
pub const PIPELINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is sent to a `COPY` in one message, in bytes.
pub const COPY_PIECE_BYTES: usize = 64 * 1024;
/// Notifications that are kept until they are fetched; after that the oldest go.
pub const NOTIFICATIONS_MAX: usize = 1_000;
/// Lines of the log about what a database says beside its answers (`RAISE NOTICE`) in one call; of further ones
/// only the number is logged.
pub const NOTICES_PER_CALL_MAX: usize = 32;
/// Such lines of one invocation; what is said after that is dropped, and the log says so.
pub const NOTICES_PER_INVOCATION_MAX: usize = 256;
/// Each text of such a line, in bytes; a longer one is cut.
pub const NOTICE_BYTES_MAX: usize = 2 * 1024;
/// After how long the server ends an idle session, in case this host cannot do it itself.
pub const IDLE_SESSION_TIMEOUT: Duration = Duration::from_secs(600);
/// One row, in bytes.
pub const ROW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is kept of an error or a notice that has more than that, in bytes.
pub const WORDS_BYTES_MAX: usize = 64 * 1024;
/// Connections, transactions and cursors that one invocation may hold at a time.
pub const LOANS_PER_INVOCATION_MAX: usize = 64;
/// A connection on which nothing was sent for this long, by wall clock, is asked whether it is still there before
/// it is used: one round trip. Between invocations that follow each other sooner, nobody can have
/// frozen the process for long; after that only an answer tells that a middlebox has not forgotten
/// the connection, since a statement must not be sent twice to find it out.
pub const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// A connection on which nothing was sent for this long, by wall clock, is replaced without asking: NAT gateways
/// forget after 350 s.
pub const IDLE_MAX: Duration = Duration::from_secs(300);
/// How long a connection may take to answer whether it is still there. A server that is slower
/// than this is connected to anew, which has the time of a connect; nothing is lost by it.
pub const VALIDATE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a statement that nobody waits for may go on before the server is asked, on another connection, to end it.
pub const CANCEL_AFTER: Duration = Duration::from_millis(5);
/// How long a server may be silent once a call's own time is over; for half of that it may end the call by itself.
pub const CALL_GRACE: Duration = Duration::from_secs(1);
/// How long a connection may take to be made clean after an invocation before it is retired.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the end of an environment waits for all connections to be made clean, side by side, unless it is
/// killed.
pub const SETTLE_ALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server may take to close its side after a good-bye. Where the network has forgotten the
/// connection it never does.
pub const TERMINATE_TIMEOUT: Duration = Duration::from_millis(100);

/// One line of a guest's output, in bytes as it is written; a longer one is cut into several. What
/// the host says beside it has to fit as well into what Lambda takes as one line: 256 KiB.
pub const OUTPUT_LINE_BYTES_MAX: usize = 250 * 1024;
/// How long the host waits for a reader of the log that reads nothing. After that, lines are lost until it
/// reads again. The wait blocks everything else on the thread.
pub const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// Output of one invocation, in bytes; what comes after is dropped, and the log says so.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// The same in lines: what the host adds to each line is longer than most of them.
pub const OUTPUT_LINES_MAX: usize = 16 * 1024;
/// The end of the output that a caller may ask to see with its answer, in bytes: Lambda's limit.
pub const OUTPUT_TAIL_BYTES: usize = 4 * 1024;
/// The name of a namespace for metrics, in bytes: CloudWatch's own limit.
pub const NAMESPACE_BYTES_MAX: usize = 255;
/// What is repeated of a text beside an invocation's figures, in bytes.
pub const METRICS_TEXT_BYTES_MAX: usize = 1024;
/// How long the export of spans may take, between an answer and the next event.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long no spans are exported after it has failed, by the wall clock.
pub const EXPORT_PAUSE: Duration = Duration::from_secs(30);
/// What a collector of spans may answer, in bytes.
pub const EXPORT_REPLY_BYTES_MAX: usize = 64 * 1024;
/// Spans that wait for their export; after that the oldest go.
pub const SPANS_MAX: usize = 2_048;
/// SQL text in a span, in bytes.
pub const SPAN_TEXT_BYTES_MAX: usize = 4 * 1024;

/// How far ahead the clock of the events' sender may seem before it is taken for another clock. Its dates
/// arrive later and are cut down to the second, so this machine's own clock never seems to be ahead.
pub const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_millis(50);
/// How old the date of a reply may be besides being cut down to the second: some servers update it once in a
/// second.
pub const DATE_AGE_MAX: Duration = Duration::from_secs(1);
/// How long the Runtime API may take to show its clock, where it is asked for nothing else: an event waits for it.
pub const API_CLOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the Runtime API may take to connect, or to reply to an answer; it is on the same machine.
/// After that, or after half of the time that is left, the answer is posted once more, on another
/// connection.
pub const API_REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time that a reply to an answer, or the rest of an event, is waited for, however little is left.
pub const API_REPLY_TIMEOUT_LEAST: Duration = Duration::from_millis(500);
/// How long the rest of a reply is waited for, once its head has said what became of an answer.
pub const API_RECEIPT_TIMEOUT: Duration = Duration::from_millis(100);
/// The pauses between the attempts to report a failed start or restore. No attempt is made after
/// `API_REPORT_MAX`.
pub const API_REPORT_PAUSES: [Duration; 2] =
    [Duration::from_millis(500), Duration::from_millis(1_000)];
/// See [`API_REPORT_PAUSES`].
pub const API_REPORT_MAX: Duration = Duration::from_secs(2);
/// The longest answer, in bytes, to which a reply comes that soon however slowly it is read: it fits into the
/// buffers on the way. The reply to a longer one has half of the time that is left, whatever that is.
pub const API_PROMPT_BYTES_MAX: usize = 64 * 1024;
/// How long a connection to the Runtime API may be silent before the system asks whether the peer
/// is there, and how often it then asks, up to `KEEPALIVE_COUNT` times.
pub const API_KEEPALIVE: Duration = Duration::from_secs(10);
/// How long the Runtime API may give no reply at all before the environment ends.
pub const API_AWAY_MAX: Duration = Duration::from_secs(60);
/// How many attempts must have been made in that time.
pub const API_FAILURES_MAX: u32 = 10;
/// The longest wait between two attempts at the Runtime API.
pub const API_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Slots that one environment may be asked to serve: what Lambda Managed Instances allow.
pub const SLOTS_MAX: u32 = 1_600;
/// The name that a function gives to its error, in bytes.
pub const ERROR_TYPE_BYTES_MAX: usize = 256;
/// The text of an error that a caller is told, in bytes; the Runtime API takes 1 MiB at most.
pub const FAULT_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The error document of an answer that fails in its middle, in bytes. It is a trailer, in base64, and
/// Go's HTTP server, which AWS's own implementation of the Runtime API is built on, takes no more
/// than 4 KB of trailers.
pub const TRAILER_FAULT_BYTES_MAX: usize = 2_700;
/// Frames of a guest's stack that are kept when it traps, from the innermost.
pub const TRAP_FRAMES_MAX: usize = 32;
/// Lines of a stack trace that a caller is told.
pub const STACK_TRACE_LINES_MAX: usize = 64;
/// One line of a stack trace, in bytes; names of generic functions can be that long.
pub const STACK_TRACE_LINE_BYTES_MAX: usize = 1024;
/// What AWS X-Ray is told of a fault, in bytes. The Runtime API keeps eight times as much, but it is a
/// header, and Node.js's HTTP server, which emulators are built on, takes 16 KiB of all of them.
pub const CAUSE_BYTES_MAX: usize = 8 * 1024;
/// What the Runtime API takes of an error, in bytes.
pub const ERROR_BYTES_MAX: usize = 1024 * 1024;
/// How long the registration as an extension may take, and for how long it is tried; it is a call on the same
/// machine.
pub const REGISTER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the connections that a start, or a restore, opens ahead of the first event may take.
pub const WARM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start, or a restore, waits for those connections before it asks for events without them: an
/// environment that is started for an event has no more than the function's timeout for both.
pub const WARM_PATIENCE: Duration = Duration::from_secs(1);
/// How long a start may take before it is given up, where it is not for an event and nothing else is said:
/// a second less than Lambda gives it, so that it hears why.
pub const INIT_TIMEOUT: Duration = Duration::from_secs(129);
/// How long it may take at most: Lambda gives it as much as an invocation, if that is more.
pub const INIT_TIMEOUT_MAX: Duration = TIMEOUT_MAX;
/// How long the instances may take to be built before the log says so. Lambda ends a start that comes
/// before an event after 10 s.
pub const INIT_PATIENCE: Duration = Duration::from_secs(9);
/// How long an instance may take to be built before an invocation that has waited for it in vain retires it: as
/// long as Lambda gives a start. On the local host, how long it is waited for before an invocation's time begins.
pub const BUILD_PATIENCE: Duration = Duration::from_secs(10);
/// Connections to one database that are open before the first event, where nothing else is said.
pub const WARM_DEFAULT: u32 = 1;
/// How long a call waits for a connection that is being told of its use, before it has another one opened.
pub const TELLING_PATIENCE: Duration = Duration::from_millis(100);

/// How long a function's hook before a snapshot may take, if the start before it has left so much of
/// `INIT_TIMEOUT`. Lambda gives both at least 130 s.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an instance may take after a restore, for the function's hook and for being built anew, where
/// nothing else is said: a second less than Lambda gives the whole restore, so that it hears why.
pub const RESTORE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long it may take at most: Lambda ends a restore after 10 s.
pub const RESTORE_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// How long an environment on Lambda may take to end, from the signal to its exit, where nothing
/// else is said: what Lambda leaves to a runtime beside an extension.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
/// How long it may take at most: Lambda leaves 2 s where it leaves most.
pub const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// How long before that end a drain stops waiting for anything, since the process itself takes a moment to end:
/// at most this, and at most a tenth of the whole time.
pub const DRAIN_MARGIN: Duration = Duration::from_millis(50);
/// How long a drain waits for what it cuts short to be answered, before databases are told good-bye beside that.
pub const CUT_TIMEOUT: Duration = Duration::from_millis(50);
/// How long the local host's drain takes at most, unless it is killed. Running invocations have all of that but
/// the last `SETTLE_ALL_TIMEOUT`.
pub const DRAIN_TIMEOUT_LOCAL: Duration = Duration::from_secs(7);
