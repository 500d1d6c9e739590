//! Patches.

use super::codec::{self, gvk};
use super::update::Change;
use super::{Api, Outcome, Reply, Request, WriteOptions};
use crate::status::ApiResult;

impl Api {
    pub(super) async fn patch(&self, request: &Request) -> ApiResult<Outcome> {
        let resource = request.resource;
        let options = WriteOptions::of(request)?;
        let patch = codec::decode_patch(request)?;
        let change = Change::of(request, &options);
        let (object, warnings) = self
            .modify(&change, |old| {
                codec::apply_patch(&patch, old, gvk(resource), options.validation)
            })
            .await?;
        Ok(Outcome {
            reply: Reply::object(resource, object),
            warnings,
        })
    }
}
