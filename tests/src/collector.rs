//! A collector of spans, as OpenTelemetry's protocol has them over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The collector, receiving until it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Received>>>,
    server: JoinHandle<()>,
}

/// A span, and where it came from.
#[derive(Debug, Clone)]
pub struct Received {
    /// The span.
    pub span: Span,
    /// Its attributes.
    pub attributes: Map<String, Value>,
    /// Those of its resource.
    pub resource: Map<String, Value>,
}

impl Received {
    /// The number of its trace, in hexadecimal.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its own number.
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The number of the span above it; empty if there is none.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Whether it is one of an error.
    pub fn failed(&self) -> bool {
        self.span
            .status
            .as_ref()
            .is_some_and(|status| status.code == 2)
    }
}

impl Collector {
    /// Starts on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self::behind(listener.expect("the machine has a free port"))
    }

    /// Receives what comes to this port from now on.
    pub fn behind(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let spans: Arc<Mutex<Vec<Received>>> = Arc::default();
        let server = tokio::spawn(serve(listener, spans.clone()));
        Self {
            address,
            spans,
            server,
        }
    }

    /// What a host's `OTEL_EXPORTER_OTLP_ENDPOINT` is.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has been received so far.
    pub fn spans(&self) -> Vec<Received> {
        self.spans.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, spans: Arc<Mutex<Vec<Received>>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let spans = spans.clone();
        connections.spawn(async move {
            let service = service_fn(|request| receive(request, &spans));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn receive(
    request: Request<Incoming>,
    spans: &Mutex<Vec<Received>>,
) -> hyper::Result<Response<Full<Bytes>>> {
    assert_eq!(request.uri().path(), "/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await?.to_bytes();
    let export = ExportTraceServiceRequest::decode(body).expect("it is what the protocol says");
    for resource in export.resource_spans {
        let of_resource = resource.resource.map(|resource| map(&resource.attributes));
        let of_resource = of_resource.unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            spans.lock().unwrap().push(Received {
                attributes: map(&span.attributes),
                resource: of_resource.clone(),
                span,
            });
        }
    }
    Ok(Response::new(Full::default()))
}

fn map(attributes: &[KeyValue]) -> Map<String, Value> {
    let value = |attribute: &KeyValue| {
        let value = attribute
            .value
            .as_ref()
            .and_then(|value| value.value.as_ref());
        match value {
            Some(Any::StringValue(text)) => json!(text),
            Some(Any::IntValue(number)) => json!(number),
            Some(Any::BoolValue(truth)) => json!(truth),
            other => json!(format!("{other:?}")),
        }
    };
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), value(attribute)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
