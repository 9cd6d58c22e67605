//! The end of an invocation's log, as a caller with `LogType=Tail` receives it.
//!
//! Promises: around the function's own lines stand the lines that Lambda puts there, in Lambda's form, so that tools
//! which read those lines find them here. Only `Max Memory Used` is missing: a guest's memory is not the environment's.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::event::local::VERSION;
use crate::fault::{Fault, Kind};
use crate::limits;

/// What the report says of an invocation.
pub(super) struct Report<'a> {
    pub(super) request_id: &'a str,
    /// The end of the guest's own lines.
    pub(super) output_tail: &'a [u8],
    pub(super) fault: Option<&'a Fault>,
    pub(super) took: Duration,
    pub(super) memory_mib: u32,
}

impl Report<'_> {
    /// The value of `X-Amz-Log-Result`: the last 4 KB, as base64.
    pub(super) fn log_result(&self) -> String {
        let log = self.log();
        BASE64_STANDARD.encode(&log[log.len().saturating_sub(limits::OUTPUT_TAIL_BYTES)..])
    }

    fn log(&self) -> Vec<u8> {
        let id = self.request_id;
        let mut log = format!("START RequestId: {id} Version: {VERSION}\n").into_bytes();
        log.extend_from_slice(self.output_tail);
        if let Some(fault) = self.fault {
            log.extend_from_slice(
                format!("[ERROR] {}: {}\n", fault.error_type, fault.caller).as_bytes(),
            );
        }
        let milliseconds = self.took.as_secs_f64() * 1000.0;
        let status = match self
            .fault
            .map(|fault| (fault.kind, fault.error_type.as_str()))
        {
            None => String::new(),
            Some((Kind::DeadlineExceeded, _)) => "Status: timeout\t".to_owned(),
            Some((_, error_type)) => format!("Status: error\tError Type: {error_type}\t"),
        };
        let end = format!(
            "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: {milliseconds:.2} ms\t\
             Billed Duration: {:.0} ms\tMemory Size: {} MB\t{status}\n",
            milliseconds.ceil(),
            self.memory_mib
        );
        log.extend_from_slice(end.as_bytes());
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report<'a>(output_tail: &'a [u8], fault: Option<&'a Fault>) -> Report<'a> {
        Report {
            request_id: "r",
            output_tail,
            fault,
            took: Duration::from_micros(1234),
            memory_mib: 128,
        }
    }

    #[test]
    fn the_guests_lines_stand_between_lambdas() {
        let log = String::from_utf8(report(b"one\ntwo\n", None).log()).unwrap();
        assert_eq!(
            log,
            "START RequestId: r Version: $LATEST\none\ntwo\nEND RequestId: r\n\
             REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t\n"
        );
    }

    #[test]
    fn a_fault_is_in_the_log_and_in_the_report() {
        let cases = [
            (Kind::DeadlineExceeded, "\tStatus: timeout\t\n"),
            (
                Kind::Panic,
                "\tStatus: error\tError Type: Function.Panic\t\n",
            ),
        ];
        for (kind, end) in cases {
            let fault = Fault::new(kind, "what happened");
            let log = String::from_utf8(report(b"", Some(&fault)).log()).unwrap();
            assert!(
                log.contains(&format!(
                    "\n[ERROR] {}: what happened\nEND",
                    kind.error_type()
                )),
                "{log}"
            );
            assert!(log.ends_with(end), "{log}");
        }
    }

    #[test]
    fn only_the_end_is_sent() {
        let result = report(&[b'x'; limits::OUTPUT_TAIL_BYTES], None).log_result();
        let decoded = BASE64_STANDARD.decode(result).unwrap();
        assert_eq!(decoded.len(), limits::OUTPUT_TAIL_BYTES);
        assert!(decoded.ends_with(b"Memory Size: 128 MB\t\n"));
    }
}
