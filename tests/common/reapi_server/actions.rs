//! ActionCache, which takes only results of real actions whose outputs are there, and has only those.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use api::action_cache_server::ActionCache;

use super::Services;
use super::state::State;

/// The digests that a result needs.
fn needed(result: &api::ActionResult) -> Vec<api::Digest> {
    let outputs = result.output_files.iter().filter_map(|file| file.digest.clone());
    outputs.chain(result.stdout_digest.clone()).collect()
}

fn is_real_action(state: &State, hash: &str) -> bool {
    let Some(action) = state.blobs.get(hash).and_then(|bytes| api::Action::decode(&bytes[..]).ok()) else {
        return false;
    };
    let is_there = |digest: &Option<api::Digest>| digest.as_ref().is_some_and(|it| state.has(&it.hash));
    is_there(&action.command_digest) && is_there(&action.input_root_digest) && !action.do_not_cache
}

#[async_trait]
impl ActionCache for Services {
    async fn get_action_result(
        &self,
        request: Request<api::GetActionResultRequest>,
    ) -> Result<Response<api::ActionResult>, Status> {
        let mut state = self.state();
        state.begin("GetActionResult", request.metadata())?;
        let request = request.into_inner();
        state.addressed(&request.instance_name, request.digest_function)?;
        let (hash, _) = state.digest(request.action_digest.as_ref())?;
        let found = state.results.get(&hash).cloned();
        let complete = found.filter(|result| needed(result).iter().all(|digest| state.has(&digest.hash)));
        let mut result = complete.ok_or_else(|| Status::not_found("no such result"))?;
        if let Some(forge) = state.behaviour.forge {
            forge(&mut result);
        }
        Ok(Response::new(result))
    }

    async fn update_action_result(
        &self,
        request: Request<api::UpdateActionResultRequest>,
    ) -> Result<Response<api::ActionResult>, Status> {
        let mut state = self.state();
        state.begin("UpdateActionResult", request.metadata())?;
        let request = request.into_inner();
        state.addressed(&request.instance_name, request.digest_function)?;
        let (hash, _) = state.digest(request.action_digest.as_ref())?;
        let is_real = is_real_action(&state, &hash);
        state.rule(is_real, "the action, its command and its input root are stored")?;
        let result = request.action_result.unwrap_or_default();
        let mut paths = Vec::new();
        for file in &result.output_files {
            state.digest(file.digest.as_ref())?;
            paths.push(file.path.clone());
        }
        let relative = paths.iter().all(|path| !path.is_empty() && !path.starts_with('/'));
        state.rule(relative, "outputs have relative paths")?;
        let complete = needed(&result).iter().all(|digest| state.has(&digest.hash));
        state.rule(complete, "what a result names is stored before it")?;
        state.results.insert(hash, result.clone());
        Ok(Response::new(result))
    }
}
