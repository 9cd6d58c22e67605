//! Answers that are posted to Lambda's Runtime API while they are made.
//!
//! Promises:
//! - a fault before the first byte is posted as any other; one after it goes behind the bytes, in
//!   HTTP trailers, as Lambda wants it;
//! - the function is slowed down to the pace at which Lambda reads, and told when it does no more;
//! - it ends shortly before the invocation's deadline, whichever side has stopped; once the head of a success
//!   has come and all of the answer has been sent, the rest of the reply is not waited for;
//! - one that did not arrive is told of by an error, and its event not handed out again.
//!
//! A streamed answer has a connection of its own, closed behind it as Lambda's documentation asks,
//! so that the one which waits for events is always free for the next request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::{
    CONNECTION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER, USER_AGENT,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::clock::Clock;
use super::flushed::{Flushed, TrackedStream};
use super::posting::{ERROR_TYPE, error_type, place};
use super::received::{INVOCATION_ID, dated_ms};
use super::refusals::judged;
use super::reply_timeout::by;
use super::{Error, Receipt, RuntimeApi, SlotAfter, pause};
use crate::fault::{Fault, Kind};
use crate::invocation::{Streamed, unix_ms_now};
use crate::limits;
use crate::telemetry::line_for;

const RESPONSE_MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");
const ERROR_BODY: HeaderName = HeaderName::from_static("lambda-runtime-function-error-body");
const STREAMING: HeaderValue = HeaderValue::from_static("streaming");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const TRAILERS: HeaderValue = HeaderValue::from_static(
    "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
);
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const HTTP: HeaderValue =
    HeaderValue::from_static("application/vnd.awslambda.http-integration-response");

impl RuntimeApi {
    /// Posts the answer of an invocation while it is made. What concerns this invocation alone is
    /// logged and is no error, as with [`RuntimeApi::answer`]; what is posted instead of an answer whose
    /// beginning fails may free the slot.
    pub async fn stream(
        &mut self,
        receipt: &Receipt,
        streamed: Streamed,
        slot: SlotAfter,
    ) -> Result<(), Error> {
        let Streamed { http, pieces } = streamed;
        // Fused: it is asked once more even if its first piece was None.
        let mut pieces = pieces.fuse();
        let first = match pieces.next().await {
            Some(Err(fault)) => return self.answer(receipt, Err(fault), slot).await,
            first => first,
        };
        let flushed = Flushed::default();
        let frames = stream::iter(first).chain(pieces).map(frame);
        let mut request = Request::new(StreamBody::new(flushed.clone().ended_by(frames)));
        *request.method_mut() = Method::POST;
        let default_headers = self.endpoint.default_headers();
        let path = format!("{}{}", default_headers.prefix, place(receipt, "response"));
        *request.uri_mut() = path.parse().map_err(|error| {
            Error::Transient(format!("a request cannot be made for {path:?}: {error}"))
        })?;
        let headers = request.headers_mut();
        headers.insert(HOST, default_headers.host.clone());
        headers.insert(USER_AGENT, default_headers.user_agent.clone());
        headers.insert(CONNECTION, CLOSE);
        headers.insert(CONTENT_TYPE, if http { HTTP } else { BYTES });
        headers.insert(RESPONSE_MODE, STREAMING);
        headers.insert(TRAILER, TRAILERS);
        if let Some(id) = &receipt.invocation_id {
            headers.insert(INVOCATION_ID, id.clone());
        }
        let posted = {
            let posting = pin!(async {
                let stream = self.opened(receipt).await;
                let posted = post(stream, request, flushed, self.endpoint.clock()).await;
                posted.map_err(|error| format!("it was not taken to its end: {error}"))
            });
            by(receipt.invocation.deadline.settled_by(), posting).await
        };
        let problem = match posted {
            Some(Ok((status, body))) => {
                match judged("a streamed answer", status, &body, Some(receipt)) {
                    Err(Error::Transient(problem)) => problem,
                    judged => return judged,
                }
            }
            Some(Err(problem)) => problem,
            None => "it was not taken to its end before the deadline".to_owned(),
        };
        let message = format!("a streamed answer did not arrive: {problem}");
        line_for!(Some(&receipt.invocation), warn, "{message}");
        // Lambda may have received nothing, so an error is posted. If it has received something, it refuses the
        // error or ends the stream with it.
        let fault = Fault::new(Kind::Internal, message)
            .with_caller_message("the streamed answer did not arrive");
        self.undelivered = Some((receipt.clone(), Err(fault)));
        Ok(())
    }

    /// A connection for one answer. Nothing has been sent before it is there, so this tries again until it is
    /// dropped at the deadline.
    async fn opened(&self, receipt: &Receipt) -> TcpStream {
        let mut failures = 0;
        loop {
            match self.endpoint.open().await {
                Ok(stream) => return stream,
                Err(error) => {
                    failures += 1;
                    let whose = Some(&*receipt.invocation);
                    line_for!(whose, warn, failures, "a streamed answer waits: {error}");
                    tokio::time::sleep(pause(failures)).await;
                }
            }
        }
    }
}

/// Posts a request whose body comes piece by piece. Returns once it is refused, or accepted and sent
/// completely: an early success does not count if the rest of the body is never sent.
async fn post<S>(
    stream: TcpStream,
    request: Request<StreamBody<S>>,
    flushed: Flushed,
    clock: &Clock,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>
where
    S: Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
{
    let tracked = TrackedStream::new(stream, flushed.clone());
    let (mut sender, driver) = http1::handshake(TokioIo::new(tracked)).await?;
    let mut driver = Some(Box::pin(driver));
    let exchange = async move {
        let asked_ms = unix_ms_now();
        let (head, body) = sender.send_request(request).await?.into_parts();
        let date = head.headers.get(DATE);
        if let Some(date_ms) = date.and_then(|date| dated_ms(date.as_bytes())) {
            clock.shown(date_ms, asked_ms, unix_ms_now());
        }
        // A success may come before the body's end. The reply is held until then: dropping it would end the
        // request.
        if head.status.is_success() && !flushed.all().await {
            return Err("the connection ended in the middle of it".into());
        }
        let body = pin!(Limited::new(body, limits::HOST_CALL_BYTES_MAX).collect());
        let end = Instant::now() + limits::API_RECEIPT_TIMEOUT;
        // An answer that is cut short says enough with its status.
        let body = by(end, body).await.and_then(Result::ok);
        let body = body.map_or_else(Bytes::new, |body| body.to_bytes());
        Ok((head.status, body))
    };
    moved(&mut driver, exchange).await
}

/// Drives a connection while an exchange on it is under way. It is dropped when it has ended: only then does a
/// request that came too late for it fail.
async fn moved<D: Future, E: Future>(driver: &mut Option<Pin<Box<D>>>, exchange: E) -> E::Output {
    let mut exchange = pin!(exchange);
    poll_fn(|cx| {
        if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
            return Poll::Ready(reply);
        }
        // Its end is an error for the exchange as well, which says more about it.
        if driver
            .as_mut()
            .is_some_and(|driver| driver.as_mut().poll(cx).is_ready())
        {
            *driver = None;
        }
        // What the connection has just read, without another turn through the scheduler.
        exchange.as_mut().poll(cx)
    })
    .await
}

/// A piece of the answer, or the trailers that say how it failed.
fn frame(piece: Result<Bytes, Fault>) -> Result<Frame<Bytes>, Infallible> {
    Ok(match piece {
        Ok(bytes) => Frame::data(bytes),
        Err(fault) => Frame::trailers(trailers(&fault)),
    })
}

fn trailers(fault: &Fault) -> HeaderMap {
    let body = BASE64_STANDARD.encode(fault.body_within(limits::TRAILER_FAULT_BYTES_MAX));
    let mut trailers = HeaderMap::new();
    trailers.insert(ERROR_TYPE, error_type(fault));
    if let Ok(body) = HeaderValue::from_maybe_shared(Bytes::from(body)) {
        trailers.insert(ERROR_BODY, body);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::FunctionIdentity;
    use super::*;
    use crate::invocation::{Deadline, Invocation};
    use crate::telemetry::invocation_of;

    fn receipt(deadline: Deadline) -> Receipt {
        let invocation = Invocation {
            deadline,
            ..invocation_of("r")
        };
        Receipt {
            invocation: Arc::new(invocation),
            invocation_id: None,
            deadline_ms: None,
        }
    }

    #[tokio::test]
    async fn an_answer_of_which_nothing_was_sent_waits_for_a_runtime_api_that_is_away() {
        // Nobody else listens there meanwhile: other tests do so at 127.0.0.1.
        let away = TcpListener::bind("127.0.0.77:0").await.unwrap();
        let address = away.local_addr().unwrap().to_string();
        drop(away);
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let receipt = receipt(Deadline::after(Duration::from_secs(60)));
        let streamed = Streamed {
            http: false,
            pieces: stream::iter([Ok(Bytes::from_static(b"whole"))]).boxed(),
        };
        let streaming = api.stream(&receipt, streamed, SlotAfter::Free);
        // Polled after that, by which time it has been refused.
        let back = async {
            let back = TcpListener::bind(&address).await.unwrap();
            let (mut socket, _) = back.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"0\r\n\r\n") {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
            let reply = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(reply).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let (streamed, request) = tokio::join!(streaming, back);
        streamed.unwrap();
        assert!(request.contains("\r\nwhole\r\n"), "{request}");
        assert!(api.undelivered.is_none());
    }

    /// The reply has no end, and whoever reads is slower than the function.
    #[tokio::test]
    async fn an_answer_that_is_taken_early_is_sent_to_its_end_all_the_same() {
        const PIECES: usize = 64;
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let receipt = receipt(Deadline::after(Duration::from_secs(600)));
        let piece = || Ok(Bytes::from(vec![b'x'; limits::STREAM_PIECE_BYTES]));
        let end = Err(Fault::new(Kind::Panic, "in the middle"));
        let pieces = (0..PIECES).map(move |_| piece()).chain([end]);
        let streamed = Streamed {
            http: false,
            pieces: stream::iter(pieces).boxed(),
        };
        let reading = async {
            let (mut socket, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            socket.read_buf(&mut request).await.unwrap();
            let reply = b"HTTP/1.1 202 Accepted\r\ncontent-length: 16\r\n\r\n{";
            socket.write_all(reply).await.unwrap();
            let mut piece = vec![0; 4 * 1024];
            loop {
                tokio::task::yield_now().await;
                match socket.read(&mut piece).await.unwrap() {
                    0 => return String::from_utf8(request).unwrap(),
                    length => request.extend_from_slice(&piece[..length]),
                }
            }
        };
        let (streamed, request) =
            tokio::join!(api.stream(&receipt, streamed, SlotAfter::Free), reading);
        streamed.unwrap();
        assert!(api.undelivered.is_none());
        assert!(request.len() > PIECES * limits::STREAM_PIECE_BYTES);
        let (_, trailers) = request.rsplit_once("\r\n0\r\n").unwrap();
        assert!(trailers.contains("Function.Panic"), "{trailers}");
    }

    #[tokio::test]
    async fn an_answer_that_is_taken_early_and_cut_after_that_did_not_arrive() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let receipt = receipt(Deadline::after(Duration::from_secs(60)));
        let piece = || Ok(Bytes::from(vec![b'x'; limits::STREAM_PIECE_BYTES]));
        let streamed = Streamed {
            http: false,
            pieces: stream::repeat_with(piece).boxed(),
        };
        let cutting = async {
            let (mut socket, _) = server.accept().await.unwrap();
            assert!(socket.read_buf(&mut Vec::new()).await.unwrap() > 0);
            let reply = b"HTTP/1.1 202 Accepted\r\ncontent-length: 16\r\n\r\n{";
            socket.write_all(reply).await.unwrap();
        };
        let (streamed, ()) = tokio::join!(api.stream(&receipt, streamed, SlotAfter::Free), cutting);
        streamed.unwrap();
        let (_, answer) = api.undelivered.unwrap();
        let told = answer.unwrap_err().log;
        assert!(told.contains("in the middle"), "{told}");
    }

    /// That it was refused so says nothing of the answer.
    #[tokio::test]
    async fn an_answer_that_is_refused_for_want_of_time_did_not_arrive() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let receipt = receipt(Deadline::after(Duration::from_secs(600)));
        let streamed = Streamed {
            http: false,
            pieces: stream::iter([Ok(Bytes::from_static(b"1"))]).boxed(),
        };
        let refusing = async {
            let (mut socket, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"0\r\n\r\n") {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
            let reply = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(reply).await.unwrap();
            socket
        };
        let (streamed, _socket) =
            tokio::join!(api.stream(&receipt, streamed, SlotAfter::Free), refusing);
        streamed.unwrap();
        assert!(api.undelivered.unwrap().1.is_err());
    }

    /// Lambda's own deadline is for the request for the next event.
    #[tokio::test]
    async fn a_reader_who_stops_is_not_waited_for_until_the_deadline_itself() {
        let nobody_reads = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody_reads.local_addr().unwrap().to_string();
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let (now, margin) = (Instant::now(), Duration::from_secs(20));
        let deadline = Deadline {
            unix_ms: 0,
            enforced: now - margin,
            instant: now + margin,
        };
        let receipt = receipt(deadline);
        let first = stream::once(async { Ok(Bytes::from_static(b"1")) });
        let streamed = Streamed {
            http: false,
            pieces: first.chain(stream::pending()).boxed(),
        };
        api.stream(&receipt, streamed, SlotAfter::Free)
            .await
            .unwrap();
        assert!(deadline.remaining() > Duration::ZERO);
        let (kept, answer) = api.undelivered.unwrap();
        assert!(kept.is_of_same_attempt(&receipt) && answer.is_err());
    }
}
