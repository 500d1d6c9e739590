//! Deleting many objects at once.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::{Api, Author, ListReply, Outcome, Reply, Request};
use crate::cache::Entry;
use crate::status::ApiResult;
use crate::value;

/// How many deletes are under way at a time.
const AT_A_TIME: usize = 16;

impl Api {
    pub(super) async fn delete_collection(&self, request: &Request) -> ApiResult<Outcome> {
        let resource = request.resource;
        let by = Author::User(&request.user);
        let options = self.delete_options(request).await?;
        let list = self.list_reply(request).await?;
        let deletes = stream::iter(list.items.iter().cloned()).map(|entry: Arc<Entry>| {
            let mut options = options.clone();
            // Only what was listed, not what may have taken its name since.
            options.uid = Some(value::uid(&entry.object()).to_owned());
            async move {
                let deleted = self
                    .delete_object(by, resource, entry.namespace(), entry.name(), &options)
                    .await;
                match deleted {
                    Ok(_) => Ok(()),
                    Err(error) if matches!(error.reason(), "NotFound" | "Conflict") => Ok(()),
                    Err(error) => Err(error),
                }
            }
        });
        deletes
            .buffer_unordered(AT_A_TIME)
            .try_collect::<()>()
            .await?;
        Ok(Reply::List(ListReply {
            remaining: None,
            ..list
        })
        .into())
    }
}
