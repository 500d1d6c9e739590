use std::collections::VecDeque;

use tokio::io::AsyncReadExt;

use super::*;

/// Gives its pieces one by one, and then the end.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, 1], payload].concat()
}

/// What etcdctl 3.4 sends of `--endpoints http://127.0.0.1:34791 endpoint status`: preface, settings and their
/// acknowledgement, headers, and an empty request. The authority is at `90 9d29…`.
fn etcdctl_3_4() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(hex("000000 04 00 00000000"));
    bytes.extend(hex("000000 04 01 00000000"));
    bytes.extend(frame(
        HEADERS,
        0x4,
        &headers("90 9d29aee30c044eae05c0b86e32d3af"),
    ));
    bytes.extend(frame(0, 0x1, &[0; 5]));
    bytes
}

fn headers(authority: &str) -> Vec<u8> {
    hex(&format!(
        "8386459760a924882d9dcb6571afa066a925a87510ac6e48d36a3f 41 {authority} 875f8b1d75d0620d263d4c4d65647a8b9aca
         c8b4c7602bb2caecff40027465864d833505b11f40899acac8b24d494f6a7f867df7db65cb7f408d25062d495875996ee5b1063d5f0333
         2e34"
    ))
}

/// The same with `httpx--127.0.0.1:34791`.
fn etcdctl_3_4_mended() -> Vec<u8> {
    let mended = "90 9d29afcacb044eae05c0b86e32d3af";
    let before = etcdctl_3_4();
    let at = before.len() - 14 - headers(mended).len();
    let mut bytes = before.clone();
    bytes[at..at + headers(mended).len()].copy_from_slice(&headers(mended));
    bytes
}

async fn through(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut given = Vec::new();
    let mut reader = Mended::new(Pieces(pieces.into_iter().collect()));
    reader.read_to_end(&mut given).await.unwrap();
    given
}

#[tokio::test]
async fn etcdctl_3_4s_url_becomes_a_name() {
    assert_eq!(through([etcdctl_3_4()]).await, etcdctl_3_4_mended());
}

#[tokio::test]
async fn it_does_wherever_the_bytes_are_torn_apart() {
    let whole = etcdctl_3_4();
    for at in 1..whole.len() {
        let (first, second) = whole.split_at(at);
        let given = through([first.to_vec(), second.to_vec()]).await;
        assert_eq!(given, etcdctl_3_4_mended(), "{at}");
    }
    let single = whole.iter().map(|byte| vec![*byte]);
    assert_eq!(through(single).await, etcdctl_3_4_mended());
}

#[tokio::test]
async fn such_a_client_may_write_it_out_again_later() {
    let mut bytes = etcdctl_3_4();
    let mut expected = etcdctl_3_4_mended();
    // A ping, and a request that refers to the table; then one that does not, with padding and a priority.
    for more in [frame(6, 0, &[7; 8]), frame(HEADERS, 0x5, &[0x83, 0xbf])] {
        bytes.extend(&more);
        expected.extend(&more);
    }
    let again = |url: &[u8]| {
        let block = [&[2, 0, 0, 0, 0, 16, 0x41, 10], url, &[0; 2]].concat();
        frame(HEADERS, 0x5 | PADDED | PRIORITY, &block)
    };
    bytes.extend(again(b"http://a:1"));
    expected.extend(again(b"httpx--a:1"));
    assert_eq!(through([bytes]).await, expected);
}

#[tokio::test]
async fn once_the_first_request_is_a_good_one_nothing_is_looked_at() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(HEADERS, 0x5, &[0x41, 3, b'a', b':', b'1']));
    let mut reader = Mended::new(Pieces([bytes.clone(), etcdctl_3_4()].into()));
    let mut given = vec![0; bytes.len()];
    reader.read_exact(&mut given).await.unwrap();
    assert_eq!(given, bytes);
    assert!(reader.inspector.is_none());
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, etcdctl_3_4());
}

#[tokio::test]
async fn what_is_not_http_2_passes_as_it_is_and_at_once() {
    let headers = frame(HEADERS, 0x4, &headers("90 9d29aee30c044eae05c0b86e32d3af"));
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI * HTTP/1.0\r\n\r\n".to_vec(),
        b"PR".to_vec(),
        vec![0xff; 100_000],
        headers,
    ] {
        let pieces = bytes.chunks(READ_BYTES).map(<[u8]>::to_vec);
        assert_eq!(through(pieces).await, bytes);
    }
    let mut reader = Mended::new(AsyncReadExt::chain(&b"PRI"[..], Never));
    assert_eq!(reader.read(&mut [0; 10]).await.unwrap(), 3);
}

/// Never gives anything.
struct Never;

impl AsyncRead for Never {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_frame_too_large_and_one_that_ends_too_soon_pass_as_they_are() {
    let mut large = PREFACE.to_vec();
    large.extend(frame(HEADERS, 0x4, &vec![0; PAYLOAD_BYTES_MAX + 1]));
    large.extend(etcdctl_3_4());
    let pieces: Vec<_> = large.chunks(1000).map(<[u8]>::to_vec).collect();
    assert_eq!(through(pieces).await, large);

    let whole = etcdctl_3_4();
    for len in 0..whole.len() - 14 {
        assert_eq!(through([whole[..len].to_vec()]).await, whole[..len]);
    }
}

#[tokio::test]
async fn no_more_than_a_frame_is_held_back() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(HEADERS, 0x4, &vec![0; PAYLOAD_BYTES_MAX]));
    bytes.pop();
    let pieces: VecDeque<_> = bytes.chunks(READ_BYTES).map(<[u8]>::to_vec).collect();
    let mut reader = Mended::new(Pieces(pieces).chain(Never));
    let mut preface = [0; PREFACE.len()];
    reader.read_exact(&mut preface).await.unwrap();
    let mut more = [0];
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    let mut more = ReadBuf::new(&mut more);
    assert!(Pin::new(&mut reader).poll_read(cx, &mut more).is_pending());
    let held = reader.inspector.unwrap().held.len();
    assert_eq!(held, HEAD_BYTES + PAYLOAD_BYTES_MAX - 1);
}
