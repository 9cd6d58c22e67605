//! The span above an invocation's, as its trace header names it.
//!
//! Promises: what is no trace header names none; a trace that goes nowhere swallows no span.
//!
//! Lambda hands out a header in any case, `Sampled=0` where X-Ray does not trace the function; then
//! the span that it names reaches nobody. So it counts where it is sampled, or where
//! `OTEL_PROPAGATORS` says that X-Ray is what is traced with.

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};

/// Which headers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parents {
    /// Those of sampled traces.
    Sampled,
    /// All of them.
    All,
    /// W3C's alone.
    Standard,
}

impl Parents {
    /// As `OTEL_PROPAGATORS` says.
    pub(super) fn from_variable(value: Option<&str>) -> Self {
        match value.filter(|value| !value.is_empty()) {
            None => Self::Sampled,
            Some(value) => {
                let mut names = value.split(',').map(str::trim);
                match names.any(|name| matches!(name, "xray" | "xray-lambda")) {
                    true => Self::All,
                    false => Self::Standard,
                }
            }
        }
    }

    /// The context in which an invocation with this header begins.
    pub(super) fn of(self, header: Option<&str>) -> Context {
        let Some(header) = header else {
            return Context::new();
        };
        let parent = standard(header).or_else(|| {
            let parent = xray(header)?;
            let counts = match self {
                Self::Sampled => parent.is_sampled(),
                Self::All => true,
                Self::Standard => false,
            };
            counts.then_some(parent)
        });
        match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        }
    }
}

/// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
fn xray(header: &str) -> Option<SpanContext> {
    let field = |name: &str| {
        let mut fields = header
            .split(';')
            .filter_map(|field| field.trim().split_once('='));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let (time, unique) = field("Root")?.strip_prefix("1-")?.split_once('-')?;
    let sampled = field("Sampled") == Some("1");
    context(&format!("{time}{unique}"), field("Parent")?, sampled)
}

/// `00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01`.
fn standard(header: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = header.trim().split('-').collect();
    let ["00", trace, span, flags] = parts.as_slice() else {
        return None;
    };
    let flags = u8::from_str_radix(flags, 16).ok()?;
    context(trace, span, flags & 1 == 1)
}

fn context(trace: &str, span: &str, sampled: bool) -> Option<SpanContext> {
    if trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let flags = match sampled {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::default(),
    };
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XRAY: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=";
    const STANDARD: &str = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-0";

    fn named(parents: Parents, header: &str) -> Option<(String, String, bool)> {
        let context = parents.of(Some(header));
        let span = context.span().span_context().clone();
        let told = (
            span.trace_id().to_string(),
            span.span_id().to_string(),
            span.is_sampled(),
        );
        span.is_valid().then_some(told)
    }

    #[test]
    fn a_header_names_its_span() {
        for sampled in [true, false] {
            let told = (
                "5759e988bd862e3fe1be46a994272793".to_owned(),
                "53995c3f42cd8ad8".to_owned(),
                sampled,
            );
            for header in [
                format!("{XRAY}{}", u8::from(sampled)),
                format!("{XRAY}{};Lineage=a87bd80c:0|68fd508a:5", u8::from(sampled)),
                format!("{STANDARD}{}", u8::from(sampled)),
            ] {
                assert_eq!(named(Parents::All, &header), Some(told.clone()), "{header}");
            }
        }
    }

    #[test]
    fn what_names_none_is_none() {
        for header in [
            "",
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3f;Parent=53995c3f42cd8ad8",
            "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8",
            "Root=1-5759e98é-bd862e3fe1be46a99427279;Parent=53995c3f42cd8ad8",
        ] {
            assert_eq!(named(Parents::All, header), None, "{header}");
        }
    }

    #[test]
    fn a_trace_of_xray_that_goes_nowhere_counts_only_if_it_is_what_is_traced_with() {
        let counts = |value, header: &str| named(Parents::from_variable(value), header).is_some();
        let (on, off) = (format!("{XRAY}1"), format!("{XRAY}0"));
        assert!(counts(None, &on) && !counts(None, &off));
        assert!(counts(Some("tracecontext, xray-lambda"), &on));
        assert!(counts(Some("tracecontext,xray-lambda"), &off));
        assert!(!counts(Some("tracecontext,baggage"), &on));
        assert!(counts(
            Some("tracecontext,baggage"),
            &format!("{STANDARD}1")
        ));
    }
}
