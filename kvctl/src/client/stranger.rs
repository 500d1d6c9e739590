//! Who listens at an address where no member does. It is asked once a connection has broken: what HTTP/2 gives as the
//! reason differs from time to time, and tells a person nothing.

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a stranger may think before it is taken for a member in trouble.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a client of HTTP/2 says first, and an empty SETTINGS frame. A member answers with a frame of its own.
const HTTP2_GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A ClientHello of TLS without content, which every server of TLS answers with an alert. To anything else that is not
/// TLS, most of them say nothing.
const TLS_GREETING: &[u8] = b"\x16\x03\x01\0\x04\x01\0\0\0";
/// As much of an answer as tells who gave it.
const ANSWER_BYTES: u64 = 5;

/// What listens there, if it is certainly no member that could be asked.
pub(super) async fn unmask(address: &str) -> Option<&'static str> {
    match known(&answer_to(HTTP2_GREETING, address).await?) {
        None => known(&answer_to(TLS_GREETING, address).await?),
        found => found,
    }
}

fn known(answer: &[u8]) -> Option<&'static str> {
    match answer {
        [b'H', b'T', b'T', b'P', ..] => Some("an HTTP server listens there, not a member"),
        // The type of a record (alert or handshake), then the version's first byte.
        [0x15 | 0x16, 3, ..] => {
            Some("the server there wants TLS, which kvctl does not support yet")
        }
        // A frame of HTTP/2 begins with its length, which is short for all that a server says first.
        [] | [0, ..] => None,
        _ => Some("what listens there does not speak gRPC: it is no member"),
    }
}

/// The first bytes that come back; none if the connection is closed at once.
async fn answer_to(greeting: &[u8], address: &str) -> Option<Vec<u8>> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(greeting).await.ok()?;
        let mut answer = Vec::new();
        // A reset after the answer does not matter, nor does one before it.
        let _ = stream.take(ANSWER_BYTES).read_to_end(&mut answer).await;
        Some(answer)
    };
    timeout(PATIENCE, asking).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers once it has read something, and hangs up; what `replies` gives may depend on what it read.
    async fn server(replies: fn(&[u8]) -> &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut read = [0; 1024];
                let length = stream.read(&mut read).await.unwrap();
                stream.write_all(replies(&read[..length])).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_web_server_is_known_by_its_answer() {
        let address = server(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(unmask(&address).await.unwrap().contains("HTTP server"));
    }

    #[tokio::test]
    async fn a_server_that_answers_only_tls_is_known() {
        let address = server(|said| match said {
            [0x16, ..] => b"\x15\x03\x01\0\x02\x02\x32",
            _ => b"",
        })
        .await;
        assert!(unmask(&address).await.unwrap().contains("TLS"));
    }

    #[tokio::test]
    async fn a_server_of_anything_else_is_known_not_to_be_a_member() {
        let address = server(|_| b"SSH-2.0-OpenSSH").await;
        assert!(unmask(&address).await.unwrap().contains("does not speak"));
    }

    #[tokio::test]
    async fn a_server_of_http2_a_silent_one_and_nobody_are_no_strangers() {
        let speaks = server(|_| b"\0\0\0\x04\0\0\0\0\0").await;
        assert_eq!(unmask(&speaks).await, None);
        let hangs_up = server(|_| b"").await;
        assert_eq!(unmask(&hangs_up).await, None);
        assert_eq!(unmask("127.0.0.1:1").await, None);
    }
}
