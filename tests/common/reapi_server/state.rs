//! What the server has, how it behaves, and what it checks of every call.

use std::collections::{HashMap, HashSet};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::{Function, INSTANCE};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum QueryStatus {
    Tells,
    Unimplemented,
    /// Says that the write is complete.
    Completes,
    /// Says that more is there than was ever sent.
    TooMuch,
}

/// How the server behaves; by default, well.
#[derive(Clone)]
pub struct Behaviour {
    /// The digest function that is used.
    pub function: Function,
    /// The digest functions that are told of.
    pub listed: Vec<Function>,
    /// As it is told; zero is none.
    pub max_batch: i64,
    pub update_enabled: bool,
    /// Lets calls through only with this token.
    pub token: Option<String>,
    /// Repeats the token that it does not like.
    pub echoes: bool,
    /// Answers this to every call of these methods, for so many times.
    pub failing: HashMap<&'static str, (Code, usize)>,
    /// What happens to the blobs of these lengths, in batches.
    pub failing_blobs: HashMap<i64, Code>,
    /// Answers batches from their end.
    pub reverse: bool,
    /// Cuts the next write after so many bytes, which it keeps.
    pub cut_write_after: Option<usize>,
    pub query_status: QueryStatus,
    /// Answers writes after their first message, with this committed size.
    pub early_answer: Option<i64>,
    /// What is done to a blob's bytes before they are sent.
    pub spoil: Option<fn(&mut Vec<u8>)>,
    /// What is done to a result before it is sent.
    pub forge: Option<fn(&mut api::ActionResult)>,
    /// Sends a blob's bytes by streams again and again.
    pub endless: bool,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            function: Function::Blake3,
            listed: vec![Function::Sha256, Function::Blake3],
            max_batch: 0,
            update_enabled: true,
            token: None,
            echoes: false,
            failing: HashMap::new(),
            failing_blobs: HashMap::new(),
            reverse: false,
            cut_write_after: None,
            query_status: QueryStatus::Tells,
            early_answer: None,
            spoil: None,
            forge: None,
            endless: false,
        }
    }
}

/// A write that did not end.
#[derive(Default)]
pub struct PartialWrite {
    pub bytes: Vec<u8>,
}

pub struct State {
    pub behaviour: Behaviour,
    pub blobs: HashMap<String, Vec<u8>>,
    pub results: HashMap<String, api::ActionResult>,
    pub partial: HashMap<String, PartialWrite>,
    pub calls: HashMap<&'static str, usize>,
    /// Offsets at which writes began, and bytes that came in all of them.
    pub write_offsets: Vec<i64>,
    pub written: usize,
    /// The UUIDs of writes.
    pub uploads: HashSet<String>,
    pub complaints: Vec<String>,
}

impl State {
    pub fn new(behaviour: Behaviour) -> State {
        State {
            behaviour,
            blobs: HashMap::new(),
            results: HashMap::new(),
            partial: HashMap::new(),
            calls: HashMap::new(),
            write_offsets: Vec::new(),
            written: 0,
            uploads: HashSet::new(),
            complaints: Vec::new(),
        }
    }

    /// What holds for every call. Fails those that are to fail.
    pub fn begin(&mut self, method: &'static str, headers: &MetadataMap) -> Result<(), Status> {
        *self.calls.entry(method).or_default() += 1;
        let metadata = headers
            .get_bin("build.bazel.remote.execution.v2.requestmetadata-bin")
            .and_then(|value| value.to_bytes().ok())
            .and_then(|bytes| api::RequestMetadata::decode(bytes).ok());
        let tool = metadata.and_then(|metadata| metadata.tool_details).map(|tool| tool.tool_name);
        self.rule(tool.as_deref() == Some("rivet"), "calls say which tool they are of")?;
        if let Some(token) = &self.behaviour.token {
            let given = headers.get("authorization").and_then(|value| value.to_str().ok());
            if given != Some(format!("Bearer {token}").as_str()) {
                let echo = given.filter(|_| self.behaviour.echoes).unwrap_or_default();
                return Err(Status::unauthenticated(format!("no token, or a wrong one: {echo}")));
            }
        }
        match self.behaviour.failing.get_mut(method) {
            Some((code, times)) if *times > 0 => {
                *times -= 1;
                Err(Status::new(*code, "as it was told"))
            }
            _ => Ok(()),
        }
    }

    /// Writes down a broken rule, and answers as a server would.
    pub fn rule(&mut self, kept: bool, rule: &str) -> Result<(), Status> {
        if kept {
            return Ok(());
        }
        self.complaints.push(rule.to_owned());
        Err(Status::invalid_argument(rule.to_owned()))
    }

    pub fn addressed(&mut self, instance: &str, function: i32) -> Result<(), Status> {
        self.rule(instance == INSTANCE, "requests name the instance")?;
        let wanted = i32::from(self.behaviour.function);
        self.rule(function == wanted, "requests name the digest function")
    }

    /// The hash of a digest that is one.
    pub fn digest(&mut self, digest: Option<&api::Digest>) -> Result<(String, i64), Status> {
        let Some(digest) = digest else {
            self.rule(false, "a digest is there")?;
            return Ok((String::new(), 0));
        };
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let is_one = digest.hash.len() == 64 && digest.hash.bytes().all(is_hex) && digest.size_bytes >= 0;
        self.rule(is_one, "a digest has 64 digits and a length")?;
        Ok((digest.hash.clone(), digest.size_bytes))
    }

    pub fn hash(&self, bytes: &[u8]) -> String {
        match self.behaviour.function {
            Function::Blake3 => blake3::hash(bytes).to_string(),
            _ => Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Whether a blob is there; the empty one always is.
    pub fn has(&self, hash: &str) -> bool {
        self.blobs.contains_key(hash) || hash == self.hash(b"")
    }

    /// A blob as it is sent.
    pub fn sent(&self, hash: &str) -> Option<Vec<u8>> {
        let mut bytes = self.blobs.get(hash)?.clone();
        if let Some(spoil) = self.behaviour.spoil {
            spoil(&mut bytes);
        }
        Some(bytes)
    }
}
