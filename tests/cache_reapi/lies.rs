//! Servers that answer what cannot be, or lost what they had: nothing of it is believed, nothing breaks.

use bazel_remote_apis::build::bazel::remote::execution::v2::{ActionResult, Digest as Wire};
use bytes::Bytes;
use rivet::testing::cache::remote::{MAX_ENTRY, RemoteFault};
use rivet::testing::cache::{BlobRef, Digest};

use super::reapi_server::{Behaviour, ReapiServer};
use super::{Client, blob, fault, key, names, sha256};

#[test]
fn blobs_of_another_length_are_nonsense() {
    let spoils: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes.truncate(bytes.len() - 1), |bytes| bytes.push(0), |bytes| bytes.clear()];
    let blobs = [blob(1, 10), blob(2, 8_000_000)];
    for spoil in spoils {
        let server = ReapiServer::start(Behaviour { spoil: Some(spoil), ..Behaviour::default() });
        let client = Client::of(&server);
        client.put_well(&blobs);
        for outcome in client.get(&names(&blobs)) {
            assert_eq!(fault(outcome), RemoteFault::InvalidResponse);
        }
    }
    // Of its length, and yet another one: that is for others to see.
    let flip: fn(&mut Vec<u8>) = |bytes| bytes[0] ^= 1;
    let server = ReapiServer::start(Behaviour { spoil: Some(flip), ..Behaviour::default() });
    let client = Client::of(&server);
    client.put_well(&blobs);
    assert!(client.get(&names(&blobs)).into_iter().all(|outcome| outcome.unwrap().is_some()));
}

#[test]
fn streams_and_batches_without_end_are_left() {
    let large = blob(1, 8_000_000);
    let server = ReapiServer::start(Behaviour { endless: true, ..Behaviour::default() });
    let client = Client::of(&server);
    client.put_well(std::slice::from_ref(&large));
    assert_eq!(fault(client.get_one(large.0)), RemoteFault::InvalidResponse);
    // A message of 64 MB where ten bytes were asked for.
    let small = blob(2, 10);
    client.put_well(std::slice::from_ref(&small));
    server.state().behaviour.spoil = Some(|bytes| bytes.resize(64 << 20, 0));
    assert_eq!(fault(client.get_one(small.0)), RemoteFault::InvalidResponse);
}

#[test]
fn a_promised_petabyte_is_not_asked_for() {
    let server = ReapiServer::start(Behaviour::default());
    let client = Client::of(&server);
    for size in [1 << 50, u64::MAX] {
        let absurd = BlobRef { digest: Digest::of(b"x"), size };
        assert_eq!(fault(client.get_one(absurd)), RemoteFault::InvalidResponse);
        assert_eq!(client.missing(&[absurd]).unwrap(), [absurd]);
    }
    assert_eq!((server.calls("Read"), server.calls("BatchReadBlobs")), (0, 0));
}

#[test]
fn forged_results_are_nonsense() {
    fn stored(result: &mut ActionResult, hash: &str, size_bytes: i64) {
        result.stdout_raw.clear();
        result.stdout_digest = Some(Wire { hash: hash.to_owned(), size_bytes });
    }
    let forgeries: [fn(&mut ActionResult); 10] = [
        |result| result.stdout_raw = vec![1; MAX_ENTRY as usize + 1],
        |result| result.stdout_raw = vec![1; 40 << 20],
        |result| result.stdout_raw.clear(),
        |result| stored(result, &"a".repeat(64), 1 << 50),
        |result| stored(result, &"a".repeat(64), i64::MIN),
        |result| stored(result, &"a".repeat(64), MAX_ENTRY as i64 + 1),
        |result| stored(result, "", 10),
        |result| stored(result, &"A".repeat(64), 10),
        |result| stored(result, &"é".repeat(32), 10),
        |result| stored(result, &"a".repeat(1 << 20), 10),
    ];
    let server = ReapiServer::start(Behaviour::default());
    let client = Client::of(&server);
    client.put_entry(key(1), &Bytes::from_static(b"an entry"), &[]).unwrap();
    for (n, forge) in forgeries.into_iter().enumerate() {
        server.state().behaviour.forge = Some(forge);
        assert_eq!(fault(client.entry(key(1))), RemoteFault::InvalidResponse, "forgery {n}");
    }
    // What is said to be stored, and is not, is a miss.
    server.state().behaviour.forge = Some(|result| stored(result, &"a".repeat(64), 10));
    assert_eq!(client.entry(key(1)).unwrap(), None);
    server.state().behaviour.forge = None;
    assert!(client.entry(key(1)).unwrap().is_some());
}

#[test]
fn forged_aliases_lead_nowhere_and_are_mended() {
    let forgeries: [fn(&mut ActionResult); 4] = [
        |result| result.output_files[0].digest.as_mut().unwrap().size_bytes += 1,
        |result| result.output_files[0].digest.as_mut().unwrap().hash = "xyz".into(),
        |result| result.output_files[0].digest = None,
        |result| result.output_files.clear(),
    ];
    let (name, bytes) = blob(1, 1000);
    for forge in forgeries {
        let server = ReapiServer::start(sha256());
        Client::of(&server).put_well(&[(name, bytes.clone())]);
        server.state().behaviour.forge = Some(forge);
        let client = Client::of(&server);
        assert_eq!(fault(client.get_one(name)), RemoteFault::InvalidResponse);
        assert_eq!(client.missing(&[name]).unwrap(), [name]);
        client.put_well(&[(name, bytes.clone())]);
        server.state().behaviour.forge = None;
        assert!(client.get_one(name).unwrap().unwrap() == bytes);
        assert!(Client::of(&server).get_one(name).unwrap().unwrap() == bytes);
    }
}

/// An alias can lead to what is there, and is something else. Whoever finds that out has it replaced.
#[test]
fn an_alias_to_other_bytes_is_replaced() {
    use sha2::Digest as _;
    let [(name, bytes), (other, other_bytes)] = [blob(1, 1000), blob(2, 1000)];
    let server = ReapiServer::start(sha256());
    let client = Client::of(&server);
    client.put_well(&[(name, bytes.clone()), (other, other_bytes.clone())]);
    server.state().behaviour.forge = Some(|result| {
        let hash = sha2::Sha256::digest(&blob(2, 1000).1);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        result.output_files[0].digest.as_mut().unwrap().hash = hash;
    });
    let client = Client::of(&server);
    assert!(client.get_one(name).unwrap().unwrap() == other_bytes);
    assert_eq!(client.missing(&[name]).unwrap(), []);
    client.forget(&name);
    assert_eq!(client.missing(&[name]).unwrap(), [name]);
    client.put_well(&[(name, bytes.clone())]);
    server.state().behaviour.forge = None;
    assert_eq!(client.missing(&[name]).unwrap(), []);
    assert!(client.get_one(name).unwrap().unwrap() == bytes);
}

/// Where names are BLAKE3, too, what was uploaded anew counts as there: it is not sent with every batch.
#[test]
fn what_was_damaged_and_uploaded_anew_is_there() {
    for behaviour in [Behaviour::default(), sha256()] {
        let server = ReapiServer::start(behaviour);
        let client = Client::of(&server);
        let (name, bytes) = blob(1, 1000);
        client.put_well(&[(name, bytes.clone())]);
        client.forget(&name);
        assert_eq!(client.missing(&[name]).unwrap(), [name]);
        client.put_well(&[(name, bytes)]);
        assert_eq!(client.missing(&[name]).unwrap(), []);
    }
}

#[test]
fn what_a_server_lost_is_missing() {
    for behaviour in [Behaviour::default(), sha256()] {
        let server = ReapiServer::start(behaviour);
        let client = Client::of(&server);
        let (name, bytes) = blob(1, 1000);
        client.put_well(&[(name, bytes.clone())]);
        client.put_entry(key(1), &Bytes::from_static(b"an entry"), &[name]).unwrap();
        server.state().blobs.clear();
        assert_eq!(client.missing(&[name]).unwrap(), [name]);
        assert_eq!(client.get_one(name).unwrap(), None);
        assert_eq!(client.entry(key(1)).unwrap(), None, "what belongs together is kept together");
        client.put_well(&[(name, bytes.clone())]);
        assert!(client.get_one(name).unwrap().unwrap() == bytes);
    }
}
