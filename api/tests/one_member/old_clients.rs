//! The bytes of clients that are no longer made, and are still in use.

use crate::frames::{
    Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame,
};
use crate::member::Running;

/// What etcdctl 3.4 sends for `--endpoints http://127.0.0.1:34791 endpoint status`: its `:authority` is that URL.
const STATUS_HEADERS: &str = "8386459760a924882d9dcb6571afa066a925a87510ac6e48d36a3f41909d29aee30c044eae05c0b86e32\
                              d3af875f8b1d75d0620d263d4c4d65647a8b9acac8b4c7602bb2caecff40027465864d833505b11f4089\
                              9acac8b24d494f6a7f867df7db65cb7f408d25062d495875996ee5b1063d5f03332e34";

/// The same once more, from the compression's dynamic table: the path, the authority, the content type and `te`.
const STATUS_HEADERS_AGAIN: &str = "8386c4c3c2c0";

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_a_url_is_answered_however_often_it_is_referred_to() {
    let running = Running::start().await;
    let mut connection = Connection::open(&running).await;
    for (stream, headers) in [(1, STATUS_HEADERS), (3, STATUS_HEADERS_AGAIN)] {
        connection
            .send(&frame(HEADERS, END_HEADERS, stream, &hex(headers)))
            .await;
        connection
            .send(&frame(DATA, END_STREAM, stream, &[0; 5]))
            .await;
    }
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let arrived = connection.next().await.unwrap();
        let (kind, stream, payload) = (arrived.kind, arrived.stream, arrived.payload);
        assert!(
            ![RST_STREAM, GOAWAY].contains(&kind),
            "{stream}: {payload:?}"
        );
        // A message: whatever went wrong would have been headers alone.
        if kind == DATA && !payload.is_empty() {
            answered.push(stream);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
}
