//! A piece of an answer that its function gives up half-way is never taken for a whole one.

use std::time::Duration;

use e2e::arrival::Reading;
use serde_json::json;

use super::streaming::{send, streaming, trailer};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Whether its producer goes on behind it, or ends as if nothing had been.
#[tokio::test]
async fn an_answer_with_a_torn_piece_ends_with_a_failure() {
    for behind in [None, Some(json!({ "send": "behind it" }))] {
        let mut trial = streaming("stream").await;
        trial.lambda().read(Reading::Held);
        // More than the buffers on the way have room for.
        let torn = json!({ "tear": [64 << 20, 500] });
        let acts: Vec<_> = [Some(torn), behind].into_iter().flatten().collect();
        let id = send(&trial, &json!({ "stream": acts }), TIMEOUT).await;
        trial.host.line("torn: true").await;
        trial.lambda().read(Reading::Freely);
        let answer = trial.lambda().answer(&id).await;
        let (error_type, document) = trailer(&answer);
        let message = document["errorMessage"].as_str().unwrap();
        assert_eq!(error_type, "Function.Error", "{message}");
        assert!(message.contains("given up half-way"), "{message}");
        assert!(answer.body.iter().all(|byte| *byte == b'x'));
        trial.value(json!({ "stream": [{ "send": "1" }] })).await;
    }
}
