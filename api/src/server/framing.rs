//! How gRPC lays messages into a stream of bytes: each after a flag that says whether it is compressed, and its length.
//!
//! What a client can see of it, errors and their texts included, is as the gRPC library has it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// The flag and the length.
pub(super) const PREFIX_BYTES: usize = 5;

pub(super) static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A response that says that it is a call's.
pub(super) fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// Nothing is ever compressed here, and clients are told so.
pub(super) fn refuse_compression(headers: &HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get(&GRPC_ENCODING) else {
        return Ok(());
    };
    if encoding == "identity" {
        return Ok(());
    }
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let mut status = Status::unimplemented(format!(
        "Content is compressed with `{encoding}` which isn't supported"
    ));
    status.metadata_mut().insert(
        "grpc-accept-encoding",
        tonic::metadata::MetadataValue::from_static("identity"),
    );
    Err(status)
}

/// The length that a prefix tells, once it is there.
pub(super) fn declared(bytes: &[u8]) -> Option<usize> {
    let (_, length) = bytes.split_first_chunk::<1>()?;
    let (length, _) = length.split_first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

/// Looks at as much of a message's prefix as there is, so that what is too long is refused before it has come.
pub(super) fn check(bytes: &[u8], limit: usize) -> Result<(), Status> {
    match bytes.first() {
        None | Some(0) => {}
        Some(1) => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        Some(flag) => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1), \
                     while sending request"
            )));
        }
    }
    match declared(bytes) {
        Some(length) if length > limit => Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {length} bytes, the limit is: {limit} bytes"
        ))),
        _ => Ok(()),
    }
}

/// The last frame of a call's body, which says how it ended.
pub(super) fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// Adds the prefix of a message of so many bytes.
pub(super) fn put_prefix(length: usize, bytes: &mut impl BufMut) -> Result<(), Status> {
    let Ok(prefix) = u32::try_from(length) else {
        // What the protocol cannot say.
        return Err(Status::out_of_range(format!(
            "Error, encoded message length too large: found {length} bytes, the limit is: {} bytes",
            u32::MAX
        )));
    };
    bytes.put_u8(0);
    bytes.put_u32(prefix);
    Ok(())
}

/// Adds a message with its prefix. What is empty gets room for just that.
pub(super) fn put<O: Message>(message: &O, bytes: &mut BytesMut) -> Result<(), Status> {
    let length = message.encoded_len();
    bytes.reserve(PREFIX_BYTES + length);
    put_prefix(length, bytes)?;
    message.encode_raw(bytes);
    Ok(())
}
