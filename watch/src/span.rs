//! What a watch watches: which keys, and how it wants their events.

use bytes::Bytes;
use keelson_proto::etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType};
use keelson_store::{Event, EventKind};

/// Where a range ends, exclusively. In this order every bounded end comes before no end at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Before(Bytes),
    Never,
}

impl End {
    pub fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => end.as_ref() > key,
            End::Never => true,
        }
    }
}

/// The keys of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Key(Bytes),
    Range { start: Bytes, end: End },
}

impl Span {
    /// The keys that the request names; none when the range is empty. As in etcd, an empty key is the smallest one,
    /// no range end means one key, and the range end `"\0"` means no end.
    pub fn of(request: &WatchCreateRequest) -> Option<Span> {
        // The request's bytes are slices of the connection's read buffer: a watch that lives for days must not keep that alive.
        let start = if request.key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            Bytes::copy_from_slice(&request.key)
        };
        match request.range_end.as_ref() {
            [] => Some(Span::Key(start)),
            [0] => Some(Span::Range {
                start,
                end: End::Never,
            }),
            end if end <= start.as_ref() => None,
            end => Some(Span::Range {
                start,
                end: End::Before(Bytes::copy_from_slice(end)),
            }),
        }
    }

    /// How many bytes of memory its keys take.
    pub fn bytes(&self) -> usize {
        match self {
            Span::Key(key) => key.len(),
            Span::Range {
                start,
                end: End::Before(end),
            } => start.len() + end.len(),
            Span::Range {
                start,
                end: End::Never,
            } => start.len(),
        }
    }
}

/// How a watch wants its events. Watches with the same wants on the same keys share the bytes of their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wants {
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
    pub fragment: bool,
}

impl Wants {
    pub fn of(request: &WatchCreateRequest) -> Wants {
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        Wants {
            prev_kv: request.prev_kv,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            fragment: request.fragment,
        }
    }

    pub fn accepts(self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }

    pub fn accepts_all(self) -> bool {
        !self.no_put && !self.no_delete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(key: &'static [u8], range_end: &'static [u8]) -> Option<Span> {
        let (key, range_end) = (Bytes::from_static(key), Bytes::from_static(range_end));
        Span::of(&WatchCreateRequest {
            key,
            range_end,
            ..Default::default()
        })
    }

    #[test]
    fn a_request_without_a_range_end_names_one_key_and_an_empty_key_is_the_smallest() {
        assert_eq!(span(b"a", b""), Some(Span::Key("a".into())));
        assert_eq!(span(b"", b""), Some(Span::Key(Bytes::from_static(&[0]))));
        assert_eq!(
            span(b"", b"\0"),
            Some(Span::Range {
                start: Bytes::from_static(&[0]),
                end: End::Never
            })
        );
    }

    #[test]
    fn a_range_that_ends_at_or_before_its_key_is_empty_but_a_zero_byte_means_no_end() {
        assert_eq!(span(b"b", b"b"), None);
        assert_eq!(span(b"b", b"a"), None);
        assert_eq!(
            span(b"b", b"\0"),
            Some(Span::Range {
                start: "b".into(),
                end: End::Never
            })
        );
        assert_eq!(
            span(b"b", b"c"),
            Some(Span::Range {
                start: "b".into(),
                end: End::Before("c".into())
            })
        );
        assert_eq!(span(b"b", b"\0\0"), None);
    }
}
