//! Redis by its own client. Concurrent requests are pipelined over one connection and answered in order, so
//! writes and blobs have connections of their own: small reads do not wait behind them. OpenDAL has a fixed
//! timeout of 500 ms, whatever an answer's size.
//!
//! Requests bound the length of their answers. The client itself has no limit: a server that breaks the
//! protocol and sends more runs into the caller's timeout.
//!
//! Large values are read and written in parts. An unfinished value has a name of its own and expires. Redis
//! takes no value above 512 MiB: such a blob is not stored.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ServerErrorKind,
};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

use super::credentials::Credentials;
use super::parameters::Parameters;
use super::single_object::ObjectStore;
use super::{BlobRef, Kind, ObjectKey, RemoteError, RemoteFault, RemoteUrl, refused, root};
use crate::cache::remote::BlobSource;
use crate::cache::remote::delivery::Delivery;

const PORT: u16 = 6379;
/// Bytes of a value at most, as servers are set up.
const MAX_VALUE: u64 = 512 << 20;
/// Bytes of a command or an answer, which are held in memory.
const PART: u64 = 4 << 20;
/// Seconds until an unfinished value expires.
const UNFINISHED_FOR: u64 = 24 * 60 * 60;

pub(super) struct Redis {
    root: String,
    client: Client,
    connect_timeout: Duration,
    /// For reading entries, and for asking whether a blob is there.
    lookups: Channel,
    /// For reading blobs.
    reads: Channel,
    /// For storing entries, and for storing blobs.
    entry_writes: Channel,
    blob_writes: Channel,
}

/// A connection shared by all requests of one sort.
#[derive(Default)]
struct Channel {
    /// `None` before the first request, and after a broken connection.
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Whether a request has timed out: the answers behind it may not come either.
    timed_out: AtomicBool,
}

/// A request under way. If it is dropped before its answer, the connection is replaced.
struct PendingRequest<'l> {
    channel: &'l Channel,
    is_answered: bool,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.channel.timed_out.store(true, Ordering::Relaxed);
        }
    }
}

impl Redis {
    pub fn open(
        url: &RemoteUrl,
        connect_timeout: Duration,
        credentials: &Credentials,
    ) -> Result<Redis, RemoteError> {
        let parameters = Parameters::of(url, &["db"])?;
        let database: i64 = match parameters.get("db").map(str::parse) {
            None => 0,
            Some(Ok(number)) if number >= 0 => number,
            Some(_) => return Err(refused("its parameter `db` must be a number from 0")),
        };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(PORT);
        let address = if url.scheme() == "rediss" {
            // The client uses the process's default provider. One that is installed already will do.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut settings = RedisConnectionInfo::default().set_db(database).set_skip_set_lib_name();
        if let Some(user) = &credentials.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = credentials.password.as_ref().or(credentials.token.as_ref()) {
            settings = settings.set_password(password);
        }
        let client = address
            .into_connection_info()
            .map(|info| info.set_redis_settings(settings))
            .and_then(Client::open)
            .map_err(|error| refused(error.category()))?;
        let (lookups, reads, entry_writes, blob_writes) = Default::default();
        Ok(Redis { root: root(url)?, client, connect_timeout, lookups, reads, entry_writes, blob_writes })
    }

    fn channel_to_read(&self, object: &ObjectKey) -> &Channel {
        match object.kind {
            Kind::Entry => &self.lookups,
            Kind::Blob => &self.reads,
        }
    }

    fn channel_to_write(&self, object: &ObjectKey) -> &Channel {
        match object.kind {
            Kind::Entry => &self.entry_writes,
            Kind::Blob => &self.blob_writes,
        }
    }

    async fn connection(&self, channel: &Channel) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = channel.connection.lock().await;
        if channel.timed_out.swap(false, Ordering::Relaxed) {
            *connection = None;
        }
        if let Some(connection) = connection.as_ref() {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            // The caller sets a timeout that follows the size.
            .set_response_timeout(None);
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(connection.insert(made).clone())
    }

    /// Runs a command. `doing` is for a message: "reading".
    async fn run<T: FromRedisValue>(
        &self,
        channel: &Channel,
        doing: &str,
        object: &ObjectKey,
        command: Cmd,
    ) -> Result<T, RemoteError> {
        let answer = async {
            let mut connection = self.connection(channel).await?;
            let mut pending = PendingRequest { channel, is_answered: false };
            let answer = command.query_async(&mut connection).await;
            pending.is_answered = true;
            answer
        };
        let error: RedisError = match answer.await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.is_io_error() || error.is_unrecoverable_error() {
            *channel.connection.lock().await = None;
        }
        let (fault, why) = judge(&error);
        Err(RemoteError::new(fault, format!("{doing} {object}: {why}")))
    }

    /// The name of an unfinished value. No two uploads share one.
    fn unfinished_key(&self, object: &ObjectKey) -> Result<String, RemoteError> {
        let number = getrandom::u64().map_err(|error| {
            RemoteError::new(RemoteFault::Local, format!("storing {object}: no random numbers: {error}"))
        })?;
        Ok(format!("{}/tmp/{number:016x}", self.root))
    }

    fn key(&self, object: &ObjectKey) -> String {
        format!("{}/{}", self.root, object.name)
    }
}

/// Classifies an error. A server's text is not repeated, except for its first word, which is a code.
fn judge(error: &RedisError) -> (RemoteFault, String) {
    let fault = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            RemoteFault::Denied
        }
        (_, Some("OOM")) => RemoteFault::Full,
        (ErrorKind::Io, _) | (_, Some("LOADING" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY")) => {
            RemoteFault::Transient
        }
        (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) | (_, Some("WRONGTYPE")) => {
            RemoteFault::InvalidResponse
        }
        _ => RemoteFault::Refused,
    };
    let why = match (error.kind(), error.code()) {
        (ErrorKind::Io, _) => "no connection, or it broke",
        (ErrorKind::AuthenticationFailed, _) => "user or password are not right",
        (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask), _) => "clusters are not supported",
        (_, Some("NOAUTH")) => "a password is needed: set RIVET_REMOTE_PASSWORD",
        (_, Some("WRONGPASS")) => "user or password are not right",
        (_, Some("NOPERM")) => "this is not allowed",
        (_, Some("OOM")) => "its memory is full",
        (_, Some("WRONGTYPE")) => "it is no string",
        // The client's message when SELECT fails, whatever the reason.
        _ if error.to_string().contains("refused to switch database") => {
            "it has no database of the number `db`, or this user may not use it"
        }
        (_, Some(code)) if is_word(code) => return (fault, format!("Redis says {code}")),
        _ => "the answer makes no sense",
    };
    (fault, why.to_owned())
}

fn is_word(code: &str) -> bool {
    (1..=20).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

impl ObjectStore for Redis {
    async fn read(&self, object: &ObjectKey, to: &mut Delivery<'_>) -> Result<bool, RemoteError> {
        let key = self.key(object);
        let channel = self.channel_to_read(object);
        let mut is_there = None;
        loop {
            // One byte more than allowed is requested, to notice values that are too long.
            let wanted = PART.min(to.left().saturating_add(1));
            let index = |at: u64| isize::try_from(at).unwrap_or(isize::MAX);
            let (start, end) = (index(to.received()), index(to.received() + wanted - 1));
            let part = self.run::<Bytes>(channel, "reading", object, Cmd::getrange(&key, start, end));
            let part = match is_there {
                Some(_) => part.await?,
                None => {
                    let exists = self.run::<bool>(channel, "reading", object, Cmd::exists(&key));
                    let (exists, part) = future::join(exists, part).await;
                    is_there = Some(exists?);
                    part?
                }
            };
            let is_last = (part.len() as u64) < wanted;
            to.write(part).await?;
            if is_last {
                return Ok(is_there == Some(true));
            }
        }
    }

    async fn has(&self, blob: &BlobRef) -> Result<bool, RemoteError> {
        let object = ObjectKey::blob(blob);
        let key = self.key(&object);
        let exists = self.run::<bool>(&self.lookups, "looking for", &object, Cmd::exists(&key));
        let length = self.run::<u64>(&self.lookups, "looking for", &object, Cmd::strlen(&key));
        let (exists, length) = future::join(exists, length).await;
        match length {
            Ok(length) => Ok(exists? && length == blob.size),
            // A value of another type, which is replaced when the blob is stored.
            Err(error) if error.fault == RemoteFault::InvalidResponse => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, object: &ObjectKey, bytes: Bytes) -> Result<(), RemoteError> {
        self.run(self.channel_to_write(object), "storing", object, Cmd::set(self.key(object), &bytes[..]))
            .await
    }

    async fn put_blob(&self, blob: &BlobRef, source: &dyn BlobSource) -> Result<(), RemoteError> {
        let object = ObjectKey::blob(blob);
        if blob.size > MAX_VALUE {
            let told = format!("storing {object}: Redis takes no more than {MAX_VALUE} bytes at once");
            return Err(RemoteError::new(RemoteFault::Unsupported, told));
        }
        let (channel, key) = (self.channel_to_write(&object), self.key(&object));
        let mut pieces = source.open(blob);
        let mut part = BytesMut::new();
        let mut unfinished: Option<String> = None;
        while let Some(piece) = pieces.next().await {
            part.extend_from_slice(&piece?);
            if (part.len() as u64) < PART {
                continue;
            }
            let command = match &unfinished {
                Some(name) => Cmd::append(name, &part[..]),
                None => {
                    let name = unfinished.insert(self.unfinished_key(&object)?);
                    Cmd::set_ex(name, &part[..], UNFINISHED_FOR)
                }
            };
            self.run::<()>(channel, "storing", &object, command).await?;
            part.clear();
        }
        let Some(unfinished) = unfinished else {
            return self.run(channel, "storing", &object, Cmd::set(key, &part[..])).await;
        };
        if !part.is_empty() {
            self.run::<()>(channel, "storing", &object, Cmd::append(&unfinished, &part[..])).await?;
        }
        self.run::<()>(channel, "storing", &object, Cmd::rename(&unfinished, &key)).await?;
        self.run(channel, "storing", &object, Cmd::persist(&key)).await
    }

    async fn remove(&self, object: &ObjectKey) -> Result<(), RemoteError> {
        self.run(self.channel_to_write(object), "removing", object, Cmd::del(self.key(object))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Digest, EntryKey};

    #[test]
    fn what_is_small_does_not_wait_behind_blobs() {
        let url = "redis://localhost/".parse().unwrap();
        let redis = Redis::open(&url, Duration::from_secs(1), &Credentials::default()).unwrap();
        let entry = ObjectKey::entry(&EntryKey(Digest::of(b"key")));
        let blob = ObjectKey::blob(&BlobRef { digest: Digest::of(b"x"), size: 1 });
        assert!(!std::ptr::eq(redis.channel_to_read(&entry), redis.channel_to_read(&blob)));
        assert!(!std::ptr::eq(redis.channel_to_write(&entry), redis.channel_to_write(&blob)));
    }
}
