//! How the bounds have to stand to each other. What is wrong here does not compile.

use super::*;

const _: () = assert!(HOST_CALL_BYTES_MAX <= CALLS_BYTES_MAX);
const _: () = assert!(EPOCH_TICK.as_millis() < OVERRUN_MAX.as_millis());
const _: () = assert!(GUEST_STACK_BYTES < FIBER_STACK_BYTES);
const _: () = assert!(FIBER_STACK_BYTES_KEPT < GUEST_STACK_BYTES);
const _: () = assert!(8 * (SUSPENDED_MAX as usize) < HANDLES_MAX);
const _: () = assert!(BATCH_BYTES_EAGER <= BATCH_BYTES && BATCH_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(SQL_BYTES_MAX <= STATEMENTS_BYTES_MAX);
const _: () = assert!(WORDS_BYTES_MAX <= ROW_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= ROW_BYTES_MAX);
const _: () = assert!(ROW_BYTES_MAX <= HOST_CALL_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX <= HOST_CALL_BYTES_MAX);
const _: () = assert!(EVENT_BYTES_MAX <= HOST_CALL_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX <= STREAM_BYTES_MAX);
const _: () = assert!(EVENT_ASYNC_BYTES_MAX <= EVENT_BYTES_MAX);
const _: () =
    assert!(OUTPUT_TAIL_BYTES < OUTPUT_LINE_BYTES_MAX && OUTPUT_LINE_BYTES_MAX < OUTPUT_BYTES_MAX);
const _: () = assert!(OUTPUT_LINE_BYTES_MAX + OUTPUT_TAIL_BYTES <= 256 * 1024);
const _: () = assert!(LOGIN_READ_BYTES < LOGIN_BYTES_MAX);
const _: () = assert!(LOGIN_PAUSE.as_millis() < LOGIN_PAUSE_MAX.as_millis());
const _: () = assert!(LOGIN_PAUSE_MAX.as_millis() < FAILOVER_PATIENCE.as_millis());
const _: () = assert!(FAILOVER_PATIENCE.as_millis() < CONNECT_TIMEOUT_DEFAULT.as_millis());
const _: () = assert!(ROTATION_PAUSE.as_millis() < ROTATION_PATIENCE.as_millis());
const _: () = assert!(ROTATION_PATIENCE.as_millis() < CONNECT_TIMEOUT_DEFAULT.as_millis());
const _: () = assert!(KEEPALIVE_IDLE.as_secs() < 350);
const _: () = assert!(IDLE_TRUSTED.as_secs() < IDLE_MAX.as_secs());
const _: () = assert!(VALIDATE_TIMEOUT.as_millis() <= IDLE_TRUSTED.as_millis());
const _: () = assert!(IDLE_MAX.as_secs() < 350);
const _: () = assert!(IDLE_MAX.as_secs() < IDLE_SESSION_TIMEOUT.as_secs());
const _: () = assert!(IDLE_MAX.as_secs() < LIFETIME_DEFAULT.as_secs());
// The protocol counts them in 16 bits.
const _: () = assert!(PARAMETERS_MAX == u16::MAX as usize);
const _: () = assert!(NOTICES_PER_CALL_MAX < NOTICES_PER_INVOCATION_MAX);
const _: () = assert!(NOTICE_BYTES_MAX < OUTPUT_LINE_BYTES_MAX);
const _: () = assert!(PORTAL_ROWS_FIRST <= PORTAL_ROWS_MAX);
const _: () = assert!(TEMPORARY_NAME_BYTES_MAX < TEMPORARY_PAGE_BYTES);
const _: () = assert!(TEMPORARY_NAME_BYTES_MAX < TEMPORARY_PATH_BYTES_MAX);
const _: () = assert!(PIPELINE_BYTES_MAX <= HOST_CALL_BYTES_MAX);
// A character takes six bytes at most as JSON, and what stands around them all 100.
const _: () = assert!(
    6 * (ERROR_TYPE_BYTES_MAX
        + FAULT_MESSAGE_BYTES_MAX
        + STACK_TRACE_LINES_MAX * STACK_TRACE_LINE_BYTES_MAX)
        + 100
        < ERROR_BYTES_MAX
);
const _: () = assert!(6 * ERROR_TYPE_BYTES_MAX + 100 < TRAILER_FAULT_BYTES_MAX);
const _: () = assert!(6 * ERROR_TYPE_BYTES_MAX + 100 < CAUSE_BYTES_MAX);
const _: () = assert!(API_REPLY_TIMEOUT_LEAST.as_millis() < API_REPLY_TIMEOUT.as_millis());
const _: () = assert!(API_RECEIPT_TIMEOUT.as_millis() < API_REPLY_TIMEOUT_LEAST.as_millis());
const _: () = assert!(
    API_REPORT_PAUSES[0].as_millis() + API_REPORT_PAUSES[1].as_millis()
        < API_REPORT_MAX.as_millis()
);
const _: () = assert!(SETTLE_TIMEOUT.as_secs() < SETTLE_ALL_TIMEOUT.as_secs());
const _: () = assert!(SETTLE_ALL_TIMEOUT.as_secs() < DRAIN_TIMEOUT_LOCAL.as_secs());
const _: () = assert!(DRAIN_TIMEOUT.as_secs() < DRAIN_TIMEOUT_MAX.as_secs());
const _: () = assert!(TERMINATE_TIMEOUT.as_millis() < DRAIN_TIMEOUT.as_millis());
const _: () = assert!(EXPORT_TIMEOUT.as_millis() < EXPORT_PAUSE.as_millis());
const _: () = assert!(WARM_DEFAULT <= POOL_DEFAULT);
const _: () = assert!(INIT_TIMEOUT.as_secs() <= INIT_TIMEOUT_MAX.as_secs());
const _: () = assert!(WARM_PATIENCE.as_millis() < WARM_TIMEOUT.as_millis());
const _: () = assert!(WARM_TIMEOUT.as_secs() < RESTORE_TIMEOUT.as_secs());
const _: () = assert!(RESTORE_TIMEOUT.as_secs() < RESTORE_TIMEOUT_MAX.as_secs());
const _: () = assert!(TIMEOUT_DEFAULT.as_secs() <= TIMEOUT_MAX.as_secs());
const _: () = assert!(TIMEOUT_MAX.as_secs() <= TIMEOUT_MAX_MANAGED.as_secs());
const _: () = assert!(API_PROMPT_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(POOL_DEFAULT <= POOL_MAX && STATEMENTS_DEFAULT <= STATEMENTS_MAX);
const _: () = assert!(INSTANCES_DEFAULT <= INSTANCES_MAX && MEMORY_MIB_DEFAULT <= MEMORY_MIB_MAX);
