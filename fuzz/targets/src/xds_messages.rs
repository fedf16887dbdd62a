//! Both ends of delta ADS, fed with messages of a peer that may say anything.
//!
//! Holds, for the server: one response is in flight at a time, each within its limit, and who acknowledges
//! everything is done after a bounded number of them. For the client: a refusal names the resource; what is
//! served stays what it was unless something was taken.

mod server;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_l7proxy_config::{ConfigStore, NamedResource};
use mesh_xds::client::{ApplyOutcome, Client, ClientConfig, ConfigSink, DeltaResource, Subscription};
use mesh_xds_proto::discovery::DeltaDiscoveryResponse;
use mesh_xds_proto::{Message, rpc};

use self::server::{Delta, Server, StateOfTheWorld};

/// Messages: a byte that says what it is, two of length, big end first, and the bytes.
pub fn run(data: &[u8]) {
    let mut delta = Server::<Delta>::new();
    let mut state = Server::<StateOfTheWorld>::new();
    let (mut client, _) = Client::new(
        ClientConfig { socket: "none".into(), node_id: "n".to_owned(), node_cluster: "c".to_owned() },
        Sink::default(),
    );
    let mut rest = data;
    while let [kind, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (bytes, next) = after.split_at(length);
        rest = next;
        let refusal = || {
            let message = String::from_utf8_lossy(bytes).into_owned();
            Some(rpc::Status { code: 3, message, details: Vec::new() })
        };
        match kind % 8 {
            0 => delta.take(bytes),
            1 => {
                delta.publish(length);
                state.publish(length);
            }
            2 => delta.answer(None),
            3 => delta.answer(refusal()),
            4 => {
                if let Ok(response) = DeltaDiscoveryResponse::decode(bytes) {
                    answered(&mut client, response);
                }
            }
            5 => state.take(bytes),
            6 => state.answer(None),
            _ => state.answer(refusal()),
        }
    }
    delta.settles();
    state.settles();
}

fn answered(client: &mut Client<Sink>, response: DeltaDiscoveryResponse) {
    let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
    let names: BTreeSet<String> = response.resources.iter().map(|resource| resource.name.clone()).collect();
    let answer = client.apply(response);
    assert_eq!((answer.type_url, answer.response_nonce), (type_url, nonce));
    if let Some(refused) = answer.error_detail {
        let named = |name: &String| refused.message.contains(name.as_str());
        assert!(refused.message.len() < 64 << 10, "a refusal of {} bytes", refused.message.len());
        assert!(names.iter().any(named), "the refusal names none of {names:?}: {}", refused.message);
    }
}

/// A proxy's side of the client: compiles what comes.
#[derive(Default)]
struct Sink(ConfigStore);

impl ConfigSink for Sink {
    fn apply(&mut self, type_url: &str, added: Vec<DeltaResource>, removed: Vec<String>) -> ApplyOutcome {
        let before = self.0.snapshot();
        let names: BTreeSet<String> = added.iter().map(|resource| resource.name.clone()).collect();
        let count = added.len();
        let upserts = added.into_iter().map(|resource| NamedResource {
            name: resource.name,
            version: resource.version,
            body: resource.body,
        });
        let rejected = self.0.apply(type_url, upserts.collect(), &removed);
        assert!(rejected.len() <= count && rejected.iter().all(|refused| names.contains(&refused.name)));
        if rejected.len() == count && removed.is_empty() {
            assert!(Arc::ptr_eq(&before, &self.0.snapshot()), "nothing was taken, and something changed");
        }
        self.0.binds();
        self.0.config_dump();
        let told = rejected
            .into_iter()
            .map(|refused| (refused.name, format!("{}: {}", refused.field, refused.reason)));
        ApplyOutcome { rejected: told.collect() }
    }

    fn subscription(&self, type_url: &str) -> Subscription {
        Subscription::Names(self.0.wanted(type_url))
    }

    fn takes_patches(&self) -> bool {
        true
    }
}
