//! Uploads that break, and are taken up again or begun anew.

use rivet::testing::cache::remote::RemoteFault;

use super::reapi_server::{Behaviour, QueryStatus, ReapiServer};
use super::{Client, blob, fault};

#[test]
fn a_cut_upload_goes_on_where_it_was_cut() {
    let (name, bytes) = blob(1, 10_000_000);
    let server = ReapiServer::start(Behaviour { cut_write_after: Some(3_333_333), ..Behaviour::default() });
    let client = Client::of(&server);
    client.put_well(&[(name, bytes.clone())]);
    {
        let state = server.state();
        assert_eq!(state.write_offsets, [0, 3_333_333]);
        // Only the message in which it was cut came twice, in part.
        assert!(state.written < 10_000_000 + (1 << 20), "{} bytes were sent", state.written);
        assert_eq!(state.uploads.len(), 1);
    }
    assert!(client.get_one(name).unwrap().unwrap() == bytes);
}

#[test]
fn an_upload_starts_again_where_the_server_cannot_tell() {
    for query_status in [QueryStatus::Unimplemented, QueryStatus::TooMuch] {
        let (name, bytes) = blob(1, 6_000_000);
        let server = ReapiServer::start(Behaviour {
            cut_write_after: Some(5_000_000),
            query_status,
            ..Behaviour::default()
        });
        let client = Client::of(&server);
        client.put_well(&[(name, bytes.clone())]);
        assert_eq!(server.state().write_offsets, [0, 0]);
        assert_eq!(server.state().uploads.len(), 2, "what is half there is left alone");
        assert!(client.get_one(name).unwrap().unwrap() == bytes);
    }
}

#[test]
fn a_server_that_has_a_blob_may_say_so_early() {
    let (name, bytes) = blob(1, 50_000_000);
    for committed in [-1, 50_000_000, 50_000_001] {
        let behaviour = Behaviour { early_answer: Some(committed), ..Behaviour::default() };
        let server = ReapiServer::start(behaviour);
        Client::of(&server).put_well(&[(name, bytes.clone())]);
        assert_eq!(server.state().written, 256 << 10);
    }
    let behaviour = Behaviour {
        cut_write_after: Some(1 << 20),
        query_status: QueryStatus::Completes,
        ..Behaviour::default()
    };
    let server = ReapiServer::start(behaviour);
    Client::of(&server).put_well(&[(name, bytes.clone())]);
    assert_eq!(server.state().write_offsets, [0]);
    // One that took less is asked once where it stands, and then believed.
    let behaviour = Behaviour { early_answer: Some(1000), ..Behaviour::default() };
    let server = ReapiServer::start(behaviour);
    assert_eq!(fault(Client::of(&server).put(&[(name, bytes)]).remove(0)), RemoteFault::Transient);
    assert_eq!((server.calls("Write"), server.calls("QueryWriteStatus")), (2, 1));
}
