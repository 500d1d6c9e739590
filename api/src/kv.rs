//! The KV service: keys, values and their history.

use std::sync::Arc;

use futures::Stream;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::command;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, ResponseHeader, TxnRequest, TxnResponse,
};
use keelson_raft::Parts;
use keelson_store::engine::Engine;
use keelson_store::{Chunk, Reply, Revision, check};
use tonic::{Request, Response, Status};

use crate::context::{Context, Learner};
use crate::error::Failure;
use crate::server::laid::Laid;
use crate::txn;

/// A read of at most so many keys is served where it arrives; a greater one goes to a thread that may block.
const INLINE_KEYS: i64 = 100;

/// The KV service.
pub struct Kv<P: Parts>(pub(crate) Arc<Context<P>>);

impl<P: Parts> Kv<P> {
    pub(crate) async fn range(&self, request: Request<RangeRequest>) -> Result<Laid, Status> {
        let learner = if request.get_ref().serializable {
            Learner::Yes
        } else {
            Learner::No
        };
        self.0.admit(request.metadata(), learner)?;
        let request = request.into_inner();
        check::range(&request, &self.0.options.limits()).map_err(Failure::from)?;
        let view = self.0.view(request.serializable).await?;
        let mut revision = view.revision;
        if on(Bug::HeaderNewerThanData) && request.serializable {
            revision = self.0.view(false).await?.revision;
        }
        let range = read(view, !is_small(&request), move |view| {
            Ok(view.range_encoded(&request)?)
        })
        .await?;
        Laid::reply(range, &self.header_at(revision))
    }

    pub(crate) async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<impl Stream<Item = Result<Laid, Status>> + Send + use<P>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        check::range(&request, &self.0.options.limits()).map_err(Failure::from)?;
        if !has_default_order(&request) {
            return Err(Failure::StreamUnsupported("custom sort orders").into());
        }
        if has_revision_filters(&request) {
            return Err(Failure::StreamUnsupported("revision filters").into());
        }
        if !request.serializable {
            self.0.member.read_barrier().await.map_err(Failure::from)?;
        }
        let chunks = self
            .0
            .member
            .reader()
            .range_stream(&request)
            .map_err(Failure::from)?;
        let header = self.0.bare_header();
        // Each chunk is read when the client has room for it, on a thread that waits for the disk and for nothing else.
        Ok(futures::stream::try_unfold(
            chunks,
            move |mut chunks| async move {
                let (chunk, chunks) = blocking(move || Ok((chunks.next_chunk()?, chunks))).await?;
                let Some(Chunk { range, last_of }) = chunk else {
                    return Ok(None);
                };
                // Only the last one has a header, with the revision that the stream is pinned to.
                let header =
                    last_of.map(|Revision(revision)| ResponseHeader { revision, ..header });
                Ok(Some((Laid::part(range, header.as_ref())?, chunks)))
            },
        ))
    }

    fn header_at(&self, Revision(revision): Revision) -> ResponseHeader {
        ResponseHeader {
            revision,
            ..self.0.bare_header()
        }
    }

    pub(crate) async fn put(
        &self,
        request: Request<PutRequest>,
    ) -> Result<Response<PutResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        check::put(&request, &self.0.options.limits()).map_err(Failure::from)?;
        let (revision, reply) = self.0.propose(command::Request::Put(request)).await?;
        let Reply::Put(mut response) = reply else {
            return Err(other_reply());
        };
        response.header = self.0.header(revision);
        Ok(Response::new(response))
    }

    pub(crate) async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        check::delete_range(&request, &self.0.options.limits()).map_err(Failure::from)?;
        let (revision, reply) = self
            .0
            .propose(command::Request::DeleteRange(request))
            .await?;
        let Reply::DeleteRange(mut response) = reply else {
            return Err(other_reply());
        };
        response.header = self.0.header(revision);
        Ok(Response::new(response))
    }

    pub(crate) async fn txn(
        &self,
        request: Request<TxnRequest>,
    ) -> Result<Response<TxnResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        check::txn(&request, &self.0.options.limits()).map_err(Failure::from)?;
        let (revision, mut response) = if txn::is_read_only(&request) {
            let view = self.0.view(txn::is_serializable(&request)).await?;
            (
                view.revision,
                read(view, true, move |view| Ok(txn::read(view, &request)?)).await?,
            )
        } else {
            let (revision, reply) = self.0.propose(command::Request::Txn(request)).await?;
            let Reply::Txn(response) = reply else {
                return Err(other_reply());
            };
            (revision, response)
        };
        response.header = self.0.header(revision);
        Ok(Response::new(response))
    }

    pub(crate) async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        check::compact(&request, &self.0.options.limits()).map_err(Failure::from)?;
        let physical = request.physical;
        let (_, reply) = self.0.propose(command::Request::Compact(request)).await?;
        let Reply::Compact(mut response) = reply else {
            return Err(other_reply());
        };
        if physical {
            // The client wants the space back before it hears from us.
            let engine = self.0.member.engine();
            blocking(move || Ok(engine.compact_files()?)).await?;
        }
        response.header = self.0.header_now();
        Ok(Response::new(response))
    }
}

/// Reads from a state: here, or on a thread that may block.
async fn read<P, T>(
    view: Arc<P>,
    may_block: bool,
    job: impl FnOnce(&P) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Status>
where
    P: Send + Sync + 'static,
    T: Send + 'static,
{
    if may_block {
        blocking(move || job(&view)).await
    } else {
        Ok(job(&view)?)
    }
}

/// Runs a job that may wait for the disk or take long on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime shuts down.
        Err(_) => Err(Failure::from(keelson_raft::Trouble::Stopped).into()),
    }
}

/// Whether a range is sure to look at few keys.
fn is_small(request: &RangeRequest) -> bool {
    if request.range_end.is_empty() {
        return true;
    }
    // At the present revision a count costs no scan, and a limit bounds the rest; in the past neither is sure.
    let bounded = request.count_only || (request.limit > 0 && request.limit <= INLINE_KEYS);
    request.revision <= 0 && bounded && has_default_order(request) && !has_revision_filters(request)
}

fn has_default_order(request: &RangeRequest) -> bool {
    let (order, target) = (request.sort_order, request.sort_target);
    order == SortOrder::None as i32
        || (target == SortTarget::Key as i32 && order == SortOrder::Ascend as i32)
}

fn has_revision_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

pub(crate) fn other_reply() -> Status {
    Failure::Internal("a command was answered with the reply of another kind").into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn range(end: &'static str, limit: i64) -> RangeRequest {
        RangeRequest {
            key: Bytes::from("a"),
            range_end: Bytes::from(end),
            limit,
            ..RangeRequest::default()
        }
    }

    #[test]
    fn a_range_that_may_look_at_many_keys_does_not_run_on_the_executor() {
        assert!(is_small(&range("", 0)));
        assert!(is_small(&range("b", 10)));
        assert!(is_small(&RangeRequest {
            count_only: true,
            ..range("b", 0)
        }));
        assert!(!is_small(&range("b", 0)));
        assert!(!is_small(&range("b", 500)));
        assert!(!is_small(&RangeRequest {
            revision: 7,
            ..range("b", 10)
        }));
        assert!(!is_small(&RangeRequest {
            max_mod_revision: 7,
            ..range("b", 10)
        }));
        assert!(!is_small(&RangeRequest {
            sort_order: SortOrder::Descend as i32,
            ..range("b", 10)
        }));
        assert!(!is_small(&RangeRequest {
            sort_target: SortTarget::Value as i32,
            sort_order: 1,
            ..range("b", 10)
        }));
    }
}
