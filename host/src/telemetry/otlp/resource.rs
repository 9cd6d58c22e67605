//! What spans say of where they come from, in the words of OpenTelemetry's semantic conventions.
//!
//! Promises: what the user says in OpenTelemetry's variables wins over what Lambda's say.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};

use crate::config::variable;
use crate::invocation::Invocation;

/// The environment.
pub(super) fn resource() -> Resource {
    let mut attributes = Vec::new();
    if let Some(name) = variable("AWS_LAMBDA_FUNCTION_NAME") {
        attributes.extend([
            KeyValue::new("cloud.provider", "aws"),
            KeyValue::new("cloud.platform", "aws_lambda"),
            KeyValue::new("service.name", name.clone()),
            KeyValue::new("faas.name", name),
        ]);
    } else {
        attributes.push(KeyValue::new("service.name", "hearth"));
    }
    let told = [
        ("AWS_REGION", "cloud.region"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "faas.version"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "faas.instance"),
    ];
    attributes.extend(
        told.iter()
            .filter_map(|(name, key)| Some(KeyValue::new(*key, variable(name)?))),
    );
    let memory_mib =
        variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|mib| mib.parse::<i64>().ok());
    let memory = memory_mib.and_then(|mib| mib.checked_mul(1024 * 1024));
    attributes.extend(memory.map(|bytes| KeyValue::new("faas.max_memory", bytes)));
    let builder = Resource::builder_empty()
        .with_attributes(attributes)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match variable("OTEL_SERVICE_NAME") {
        Some(name) => builder.with_service_name(name).build(),
        None => builder.build(),
    }
}

/// The function, as an invocation names it by its ARN.
pub(super) fn of_function(invocation: &Invocation) -> Vec<KeyValue> {
    let arn = invocation.function_arn.as_str();
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _, "lambda", _, account, "function", _, ..] = parts.as_slice() else {
        return Vec::new();
    };
    // An alias may stand for another version tomorrow.
    let mut own = parts[..7].join(":");
    if invocation
        .function_version
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        && !invocation.function_version.is_empty()
    {
        own = format!("{own}:{}", invocation.function_version);
    }
    vec![
        KeyValue::new("aws.lambda.invoked_arn", arn.to_owned()),
        KeyValue::new("cloud.resource_id", own),
        KeyValue::new("cloud.account.id", (*account).to_owned()),
    ]
}
